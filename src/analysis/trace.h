// Which lines of Python code asked for what is in use: tracemalloc's traces by site; and what tracemalloc itself cannot
// tell: what lies there now, who holds it, and what it retains.
//
// Counts and bytes are tracemalloc's (what was asked for, without what allocators add), but for retained_bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "analysis/holders.h"
#include "pyobj/tracemalloc.h"
#include "support/counts.h"

namespace heapcore {

enum class TraceBy : std::uint8_t { kLine, kFile, kTraceback };

// As tracemalloc.Filter has it: '*', '?' and '[...]' in a file's name; ".pyc" is ".py".
struct TraceFilter {
  std::string pattern;
  std::optional<std::uint32_t> line;
  bool inclusive = true;
};

struct TraceOptions {
  TraceBy by = TraceBy::kLine;
  std::vector<TraceFilter> filters;  // one of the inclusive must match, if there are any; no exclusive one may
  bool all_frames = false;           // a filter looks at all frames of a traceback, not only at the most recent
  std::optional<std::uint32_t> domain;
  std::size_t limit = 20;  // of sites; 0 for no limit
  bool values = false;     // keys of dicts may be shown in paths
};

struct TracePlace {
  std::string file;
  std::uint32_t line = 0;  // 0 where files are asked for

  auto operator<=>(const TracePlace&) const = default;
};

struct TraceType {
  std::string type;  // of an object; "buffer of T" of what an object has for itself
  CountBytes total;
};

struct TraceSite {
  std::vector<TracePlace> frames;  // the most recent call first; one, unless tracebacks are asked for
  CountBytes total;
  CountBytes older;              // in the target compared with
  std::vector<TraceType> types;  // what lies there, the largest first
  std::uint64_t retained_bytes = 0;
  Addr largest = 0;  // what retains most; 0 if nothing was found there
  std::string path;  // by which that is held
};

struct TraceAnswer {
  bool tracing = false;
  bool found = false;     // tracemalloc's state at all
  bool compared = false;  // with an older target
  std::optional<std::uint32_t> most_frames;
  std::optional<std::uint64_t> peak_bytes;
  std::string located_by;
  CountBytes traced;   // all there is
  CountBytes matched;  // what the filters leave
  CountBytes older;    // what they leave of the older target
  std::vector<TraceSite> sites;
  std::uint64_t sites_count = 0;
};

// Sums of the sites of one target, to compare another with.
struct OlderSites {
  std::vector<std::pair<std::vector<TracePlace>, CountBytes>> sites;
};

OlderSites sum_sites(const TraceTables& tables, const TraceOptions& options);

// `older`: null unless two targets are compared; then those that changed most come first.
TraceAnswer trace_answer(const Process& process, const Holders& holders, const TraceTables& tables,
                         const TraceOptions& options, const OlderSites* older, Findings& findings);

}  // namespace heapcore
