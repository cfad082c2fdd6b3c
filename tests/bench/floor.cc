// The least that any analysis of a core has to do: one thread maps the file and sums every 8-byte word of it.
// Prints the seconds it took, mapping included, and the sum, so that no compiler leaves the work out.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: heapcore_floor FILE\n");
    return 2;
  }
  const auto begin = std::chrono::steady_clock::now();
  const int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
  struct stat info {};
  if (fd < 0 || fstat(fd, &info) != 0 || info.st_size <= 0) {
    std::perror(argv[1]);
    return 3;
  }
  const std::size_t size_bytes = static_cast<std::size_t>(info.st_size);
  void* mapped = mmap(nullptr, size_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  if (mapped == MAP_FAILED) {
    std::perror("mmap");
    return 3;
  }
  const unsigned char* bytes = static_cast<const unsigned char*>(mapped);
  std::uint64_t sum = 0;
  for (std::size_t at = 0; at + sizeof(std::uint64_t) <= size_bytes; at += sizeof(std::uint64_t)) {
    std::uint64_t word;
    std::memcpy(&word, bytes + at, sizeof(word));
    sum += word;
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  std::printf("%.6f %016llx\n", seconds.count(), static_cast<unsigned long long>(sum));
  munmap(mapped, size_bytes);
  close(fd);
  return 0;
}
