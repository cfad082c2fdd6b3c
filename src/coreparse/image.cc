#include "coreparse/image.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace heapcore {

Image::~Image() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

Image::Image(Image&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Image& Image::operator=(Image&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Result<Image> Image::map_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int number = errno;
    if (number == ENOENT || number == ENOTDIR) {
      return Error{ErrorCode::kNotFound, fmt::format("{} does not exist", path),
                   "check the path; a relative one starts here"};
    }
    if (number == EACCES || number == EPERM) {
      return Error{ErrorCode::kNotPermitted, fmt::format("{} may not be read by this user", path),
                   "run heapcore as the file's owner or as root, or change the file's permissions"};
    }
    return Error{ErrorCode::kIo, fmt::format("{} cannot be opened: {}", path, errno_text(number)), ""};
  }
  Result<Image> image = map_file_descriptor(fd, path);
  ::close(fd);
  return image;
}

Result<Image> Image::map_file_descriptor(int fd, const std::string& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) {
    return Error{ErrorCode::kIo, fmt::format("{} cannot be examined: {}", path, errno_text(errno)), ""};
  }
  if (S_ISDIR(info.st_mode)) {
    return Error{ErrorCode::kNotACore, fmt::format("{} is a directory, not a core file", path),
                 "name the core file inside it"};
  }
  if (!S_ISREG(info.st_mode)) {
    return Error{ErrorCode::kNotACore, fmt::format("{} is not a regular file", path),
                 "save what it delivers to a file first"};
  }
  Image image;
  image.size_ = static_cast<std::size_t>(info.st_size);
  if (image.size_ == 0) return image;
  void* address = ::mmap(nullptr, image.size_, PROT_READ, MAP_PRIVATE, fd, 0);
  if (address == MAP_FAILED) {
    return Error{ErrorCode::kNoMemory, fmt::format("{} cannot be mapped: {}", path, errno_text(errno)),
                 "raise the limit on address space (ulimit -v)"};
  }
  image.data_ = static_cast<std::byte*>(address);
  return image;
}

Result<Image> Image::reserve(std::uint64_t n) {
  Image image;
  if (n == 0) return image;
  void* address = ::mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    return Error{ErrorCode::kNoMemory, fmt::format("no room for {} bytes: {}", n, errno_text(errno)),
                 "free memory, or raise --max-memory or the limit on address space (ulimit -v)"};
  }
  image.data_ = static_cast<std::byte*>(address);
  image.size_ = n;
  return image;
}

bool Image::resize(std::uint64_t n) {
  if (data_ == nullptr || n == 0) return false;
  void* address = ::mremap(data_, size_, n, MREMAP_MAYMOVE);
  if (address == MAP_FAILED) return false;
  data_ = static_cast<std::byte*>(address);
  size_ = n;
  return true;
}

}  // namespace heapcore
