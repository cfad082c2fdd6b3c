// What the fuzz targets share. A target is one function that takes any bytes:
//
//     HEAPCORE_FUZZ_TARGET(stream, const Bytes input) { ... }
//
// Built with libFuzzer (HEAPCORE_FUZZ), each is a program of its own; without, all of them are in heapcore_replay,
// which runs the committed corpus through them (see replay.cc). What a target promises it checks with promise(), which
// aborts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>

namespace heapcore::fuzz {

using Bytes = std::span<const std::byte>;

inline void promise(bool kept, const char* what) {
  if (kept) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

// A file in memory with these bytes, for what reads only files.
class ScratchFile {
 public:
  explicit ScratchFile(Bytes contents);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_ = -1;
};

struct Target {
  Target(const char* its_name, void (*its_run)(Bytes));
  const char* name;
  void (*run)(Bytes);
  const Target* next;
  static const Target* first;
};

}  // namespace heapcore::fuzz

#define HEAPCORE_FUZZ_TARGET(name, input)                                     \
  static void fuzz_##name(input);                                             \
  static const heapcore::fuzz::Target fuzz_target_##name(#name, fuzz_##name); \
  static void fuzz_##name(input)
