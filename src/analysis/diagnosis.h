// What is wrong with a process's memory, and what to do about it: the "findings" of the report. (A Finding, in
// support/finding.h, is what is wrong with the target's data, or missing from it.)
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "support/addr.h"

namespace heapcore {

enum class Severity : std::uint8_t { kLow, kMedium, kHigh };

struct Diagnosis {
  std::string code;  // "static-registry": stable, for automation
  Severity severity = Severity::kLow;
  std::string title;                  // one line, with the name at fault and the bytes
  std::uint64_t bytes = 0;            // that the fix would give back
  std::vector<std::string> evidence;  // paths, counts, sizes: each line true by itself
  std::string advice;                 // names the fix
  std::vector<Addr> objects;          // to look at with `show`, `refs`, `paths`
};

// All the codes there are.
inline constexpr const char* kDiagnosisCodes[] = {
    "debug-query-log",
    "dominant-holder",
    "lost-references",
    "malloc-fragmentation",
    "mimalloc-fragmentation",
    "native-growth",
    "obmalloc-fragmentation",
    "static-registry",
    "task-pileup",
    "traceback-pins-frames",
    "unbounded-cache",
    "uncollected-cycles",
    "untrimmed-malloc",
    "waste",
};

const char* severity_name(Severity severity);

}  // namespace heapcore
