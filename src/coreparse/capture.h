// Writes a core of a live process, or of a snapshot, that answers as the process itself did and that gdb opens.
//
// What is in it: all memory that a snapshot copies (writable private memory, stacks, the vdso, ELF headers, what of
// private file mappings was written to), the rest of the program's and its libraries' files of up to 64 MiB each, 512
// MiB in all, and the registers of all threads. Not in it: shared memory, other files, and code beyond those limits,
// which is then read from the files, where they are at hand.
//
// capture_process() streams: it takes `buffer_bytes` of memory and a list of what is to be read, however large the
// process is. The process stands still from the first byte read to the last byte *read*, not written: one that holds no
// more than the buffer does not wait for the disk.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "coreparse/snapshot.h"
#include "support/addr.h"
#include "support/finding.h"
#include "support/progress.h"
#include "support/result.h"

namespace heapcore {

struct CaptureOptions {
  std::string name;                                      // of the file, for messages
  bool compress = false;                                 // as zstd; else sparse
  bool stop = true;                                      // capture_process(): false lets the process run on
  std::uint64_t most_file_bytes = 0;                     // more is an error; 0 for any number
  std::uint64_t buffer_bytes = std::uint64_t{64} << 20;  // capture_process(): read ahead of what is written
};

struct CaptureSummary {
  std::uint64_t memory_bytes = 0;  // of the process, in the core
  std::uint64_t file_bytes = 0;    // that those take on the disk
  std::uint64_t threads = 0;
  TargetInfo info;
  Findings findings;
};

// Writes to `descriptor`, which stays the caller's.
Result<CaptureSummary> capture_process(std::int32_t pid, int descriptor, const CaptureOptions& options,
                                       Progress& progress);
// With zeros where `blanked` says so. REQUIRES: `blanked` sorted and disjoint.
Result<CaptureSummary> write_core(const Snapshot& snapshot, std::span<const AddrRange> blanked, int descriptor,
                                  const CaptureOptions& options, Progress& progress);

}  // namespace heapcore
