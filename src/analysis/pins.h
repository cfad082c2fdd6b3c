// What keeps nearly empty memory from going back: the live objects in sparse arenas of obmalloc, in sparse pages of
// mimalloc, and in pages of malloc's that malloc_trim(0) cannot release for them (pinned_pages.h), by type and by who
// holds them. All three are called arenas here.
//
// An arena is sparse if less than a given share of it is live. What it keeps is what of it is not live: that goes back,
// with the live part, once its last block is freed.
//
// A block counts for the object that it is part of: the nearest of its dominators that is an instance of a class, a
// class, a function or a module; failing that the outermost small container. So "480 TaskResult" are named, and not
// 480 dicts and 960 strs. A block that nothing leads to stands for itself.
//
// Several groups may pin the same arena, and each would keep it. So the groups' kept_bytes overlap, and must not be
// added up; their alone_bytes do not overlap, and the totals count every arena once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analysis/fragmentation.h"
#include "analysis/holders.h"
#include "analysis/process.h"

namespace heapcore {

struct PinGroup {
  MapAllocator allocator = MapAllocator::kObmalloc;
  std::string type;               // "module.name"; "raw block" where no object owns it; "freed module.name" of what is
                                  // no object any more, but on a free list of the interpreter's
  std::string held_by;            // their merged path; empty if nothing leads to them
  std::uint64_t count = 0;        // of those objects
  std::uint64_t bytes = 0;        // live in these arenas: them, and what is part of them
  std::uint64_t arenas = 0;       // or pages
  std::uint64_t kept_bytes = 0;   // of those
  std::uint64_t alone_in = 0;     // arenas in which there is nothing else
  std::uint64_t alone_bytes = 0;  // kept by those
  std::vector<Addr> objects;      // a few of them, the lowest addresses
};

struct PinTotals {
  MapAllocator allocator = MapAllocator::kObmalloc;
  std::uint64_t arenas = 0;
  std::uint64_t bytes = 0;  // of those arenas: kept and live
  std::uint64_t kept_bytes = 0;
  std::uint64_t live_bytes = 0;
  std::uint64_t blocks = 0;  // live in them
};

struct PinsAnswer {
  unsigned below_percent = 0;
  std::vector<PinGroup> pins;  // what keeps most first
  std::uint64_t pins_count = 0;
  std::vector<PinTotals> allocators;  // only those that have such arenas

  PinTotals total() const;
};

struct PinsOptions {
  unsigned below_percent = 25;
  std::size_t limit = 20;         // groups; 0 for no limit
  std::size_t objects_limit = 8;  // addresses of each; 0 for no limit
  bool values = false;            // keys of dicts may be shown
};

// REQUIRES: process.runtime() != nullptr; `map` is of the same process.
PinsAnswer find_pins(const Process& process, const Holders& holders, const FragmentationMap& map,
                     const PinsOptions& options, Findings& findings);

}  // namespace heapcore
