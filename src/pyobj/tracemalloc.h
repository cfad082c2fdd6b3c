// tracemalloc's tables, where the process had tracing on: which line of Python code asked for each block that is in
// use.
//
// They are hash tables of C structures (Modules/_tracemalloc.c to 3.11, Python/tracemalloc.c from 3.12 on;
// Modules/hashtable.c and Python/hashtable.c), which no object refers to. From 3.12 on _PyRuntime points to them;
// before, static variables do, of which a stripped interpreter tells nothing: then they are found by their shape.
//
// The size of a block is what was asked for, without what allocators add. All that is read of the tables is bounded by
// what is mapped; what is damaged is left out, with a finding.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pyobj/runtime.h"
#include "support/column.h"

namespace heapcore {

struct TraceFrame {
  std::uint32_t file = 0;  // of TraceTables::files
  std::uint32_t line = 0;

  auto operator<=>(const TraceFrame&) const = default;
};

// The most recent call first.
struct Traceback {
  std::uint64_t first = 0;  // of TraceTables::frames
  std::uint32_t count = 0;
  std::uint32_t total = 0;  // frames that there were, if more than are kept; 0 where the version does not say (to 3.8)
};

struct Trace {
  Addr block = 0;  // what the allocator returned: a header of the collector comes first
  std::uint64_t bytes = 0;
  std::uint32_t traceback = 0;  // of TraceTables::tracebacks
  std::uint32_t domain = 0;     // 0 is Python's own; extension modules have others
};

struct TraceTables {
  bool tracing = false;
  std::optional<std::uint32_t> most_frames;  // of a traceback, as tracemalloc.start() was told; nothing: not known
  // As the interpreter counts; nothing where it does not say.
  std::optional<std::uint64_t> traced_bytes;
  std::optional<std::uint64_t> peak_bytes;
  std::string located_by;
  std::vector<std::string> files;
  std::vector<TraceFrame> frames;
  std::vector<Traceback> tracebacks;
  Column<Trace> traces;  // by address and domain
};

// Nothing if there are no such tables in this version, or they were not found: then a finding says why.
std::optional<TraceTables> read_trace_tables(const Snapshot& snapshot, const PyRuntime& runtime, Findings& findings);

}  // namespace heapcore
