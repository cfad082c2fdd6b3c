// Reference cycles: the graph's strongly connected components of more than one node, or of one that refers to itself,
// grouped by the types along a shortest cycle in them; and what of the heap is uncollected garbage.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analysis/garbage.h"
#include "analysis/holders.h"

namespace heapcore {

struct CycleGroup {
  std::vector<std::string> types;  // along the cycle
  std::vector<std::string> edges;  // from each of `types` to the next; the last closes the cycle
  std::string closing_edge;        // "__main__.Accessor.view"
  bool reachable = false;          // something outside leads to it
  bool garbage = false;            // the collector would free it
  std::uint64_t count = 0;         // components of this shape
  std::uint64_t objects = 0;       // blocks in them
  std::uint64_t bytes = 0;         // the allocators', of those
  std::uint64_t retained_bytes = 0;
  Addr example = 0;

  std::string text() const;  // "__main__.View.fields -> __main__.Accessor.view"
};

struct GarbageType {
  std::string module;
  std::string name;
  CountBytes total;            // sys.getsizeof
  bool has_finalizer = false;  // a __del__, which the collector calls before it frees
};

struct CyclesAnswer {
  std::vector<CycleGroup> groups;            // garbage first, then by what they retain
  std::uint64_t groups_count = 0;            // of which `groups` are the first
  CountBytes garbage;                        // all that gc.collect() would find unreachable; sys.getsizeof
  std::uint64_t garbage_retained_bytes = 0;  // what would be free then
  std::vector<GarbageType> garbage_types;    // the most frequent first
  std::uint64_t garbage_types_count = 0;
  std::uint64_t frozen = 0;  // objects that gc.freeze() put aside
  std::vector<Generation> generations;
  Addr gc_garbage = 0;  // gc.garbage, what the collector found and could not or was told not to free; 0: not known
  std::uint64_t gc_garbage_count = 0;
  bool gc_enabled = true;  // in all interpreters
};

struct CyclesOptions {
  std::size_t limit = 20;     // of each list; 0 for no limit
  bool values = false;        // keys of dicts may be shown
  bool garbage_only = false;  // leave out cycles that are in use
};

// The pass "cycles".
CyclesAnswer find_cycles(const Process& process, const Holders& holders, const CyclesOptions& options,
                         Findings& findings);

}  // namespace heapcore
