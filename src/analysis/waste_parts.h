// What the files that find waste share. Private to analysis.
#pragma once

#include <cstdint>
#include <vector>

#include "analysis/heap_graph.h"
#include "analysis/waste.h"

namespace heapcore {

// A type of the interpreter's own, and no subclass of it.
inline bool is_builtin(const TypeInfo& type, const PyTraits& traits) {
  return !type.is_heap_type && type.module == traits.builtins_module;
}

// One object that wastes.
struct WasteFind {
  NodeId node = kNoNode;   // whose type the row is of; kNoNode: `shown` is
  NodeId shown = kNoNode;  // whose address is shown, and from whose holder on the row's is sought
  WasteKind kind = WasteKind::kDuplicateStrings;
  std::uint64_t count = 1;
  std::uint64_t bytes = 0;
  std::uint64_t wasted_bytes = 0;
};

// Strings of one content; the first is the one that stays.
struct StringGroup {
  std::vector<NodeId> copies;  // ascending
  std::uint64_t bytes = 0;
  std::uint64_t wasted_bytes = 0;
  std::uint64_t length = 0;
};

// waste_strings.cc. In the order of their first copies.
std::vector<StringGroup> find_duplicate_strings(const Process& process, const HeapGraph& graph,
                                                const WasteOptions& options);

// waste_containers.cc. Instance dicts, empty and sparse containers, spare room, boxed numbers; in the order of nodes.
std::vector<WasteFind> find_container_waste(const Process& process, const HeapGraph& graph,
                                            const WasteOptions& options);

}  // namespace heapcore
