// Whether the allocators' structures agree with each other: malloc's walk with its lists and its own counters,
// obmalloc's pools with their free lists and counts, objects with the collector's lists.
//
// What disagrees is among process.findings, with its address. "Consistent" means that there is none of the allocators'
// or the objects' own; a target of which parts are missing can be consistent as far as it goes, and then `whole` is
// false.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analysis/process.h"

namespace heapcore {

struct Verification {
  struct Check {
    std::string part;  // "malloc", "obmalloc", "objects"
    std::string what;
    std::uint64_t count = 0;
  };
  std::vector<Check> checks;
  std::uint64_t findings = 0;  // of damage, and of what is missing
  bool consistent = true;
  bool whole = true;
};

// The passes "walk" and "decode". Fills the arenas' totals of process.heap(), adds to process.findings.
Verification verify_process(Process& process, Progress& progress, Timings& timings);

}  // namespace heapcore
