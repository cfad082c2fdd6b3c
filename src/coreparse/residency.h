// Which pages of a live process are in memory, and which in swap. Not part of the snapshot: it is read when asked for,
// from the process as it runs on, so it is a little younger.
//
// As in VmRSS, the shared page of zeros, which is all there is where memory was only read, does not count (where the
// kernel tells: PAGEMAP_SCAN, Linux 6.7).
//
// Source: live::PageMap, and /proc/PID/status (VmRSS, VmSwap).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "coreparse/snapshot.h"
#include "support/addr.h"
#include "support/result.h"

namespace heapcore {

class Residency {
 public:
  // Of the process that `snapshot` is of.
  static Result<Residency> read(const Snapshot& snapshot);

  std::uint64_t rss_bytes() const { return rss_bytes_; }  // the kernel's own figures, for the whole process
  std::uint64_t swap_bytes() const { return swap_bytes_; }

  std::uint64_t resident_in(const AddrRange& range) const { return overlap(resident_, range); }
  std::uint64_t swapped_in(const AddrRange& range) const {
    const std::uint64_t held = overlap(held_, range);
    return held - std::min(held, resident_in(range));  // the process runs on: pages may have gone in between
  }

 private:
  static std::uint64_t overlap(const std::vector<AddrRange>& runs, const AddrRange& range);

  std::uint64_t rss_bytes_ = 0;
  std::uint64_t swap_bytes_ = 0;
  std::vector<AddrRange> resident_;  // runs of pages, by address
  std::vector<AddrRange> held_;      // those, and what is in swap
};

}  // namespace heapcore
