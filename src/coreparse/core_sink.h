// Where the bytes of a core that heapcore writes go: a sparse file, or a zstd stream. Private to coreparse.
//
// Neither needs more memory for more bytes. A full disk, a limit on the size of files or a pipe whose reader has gone
// is an error that says so; what was written by then is the caller's to remove.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "support/result.h"

namespace heapcore {

class CoreSink {
 public:
  virtual ~CoreSink() = default;
  virtual Status write(std::span<const std::byte> bytes) = 0;
  virtual Status zeros(std::uint64_t n) = 0;
  // REQUIRES: called once, after all else.
  virtual Status finish() = 0;

  // What the file takes on its disk, so far.
  std::uint64_t stored_bytes() const { return stored_bytes_; }

 protected:
  std::uint64_t stored_bytes_ = 0;
};

struct SinkOptions {
  std::string name;              // for messages
  bool compress = false;         // as zstd
  std::uint64_t most_bytes = 0;  // what the file may take; 0 for any number
};

// Writes to `descriptor`, which stays the caller's, from where it stands.
Result<std::unique_ptr<CoreSink>> make_core_sink(int descriptor, const SinkOptions& options);

}  // namespace heapcore
