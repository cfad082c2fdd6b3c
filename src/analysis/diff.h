// What grew between two snapshots of one process, or of two that began alike: by type, by who holds what is new, by
// what is mapped, and by the allocators' state.
//
// An object *survived*, or is *new*, or *gone*, as survivors.h has it: newer = survived + new, older = survived + gone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analysis/ledger.h"
#include "analysis/process.h"
#include "support/counts.h"

namespace heapcore {

struct TypeGrowth {
  std::string module;
  std::string name;
  CountBytes older;  // sys.getsizeof
  CountBytes newer;
  CountBytes added;     // in the newer only
  CountBytes gone;      // in the older only
  CountBytes survived;  // in both; their bytes as in the newer

  std::int64_t grown_bytes() const { return static_cast<std::int64_t>(newer.bytes - older.bytes); }
};

// What is new, by who holds it: the new objects that hang from what was there before or from a root, and not from other
// new ones, merged by their paths as `paths` does it. The rest of what is new is in what they retain.
struct HeldGrowth {
  std::string type;  // "module.name"
  std::string path;
  std::uint64_t count = 0;
  std::uint64_t retained_bytes = 0;
  Addr example = 0;
};

// A figure of both: a category of the ledger, or what an allocator has.
struct FigureGrowth {
  std::string what;  // "malloc free"
  std::uint64_t older = 0;
  std::uint64_t newer = 0;

  std::int64_t grown() const { return static_cast<std::int64_t>(newer - older); }
};

struct Diff {
  std::vector<TypeGrowth> types;  // by grown_bytes, the largest first
  std::uint64_t types_count = 0;  // of which `types` are the first
  TypeGrowth total;
  std::vector<HeldGrowth> holders;  // by retained_bytes, the largest first
  std::uint64_t holders_count = 0;
  std::vector<FigureGrowth> ledger;   // bytes by category; the largest growth first
  std::vector<FigureGrowth> figures;  // bytes of the allocators, in a fixed order
};

struct DiffOptions {
  std::size_t limit = 20;  // of each list; 0 for no limit
  bool values = false;     // keys of dicts may be shown
};

// REQUIRES: both have a runtime. Fills the arenas' totals of both heaps. Findings of each go to its own.
Diff compare(Process& older, Process& newer, const DiffOptions& options, Progress& progress, Timings& timings);

}  // namespace heapcore
