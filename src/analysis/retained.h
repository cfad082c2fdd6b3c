// The dominator tree over the whole heap: what would go if this went.
//
// Retained bytes are the allocators' (blocks with their headers), owned buffers included.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analysis/dominators.h"
#include "analysis/heap_graph.h"

namespace heapcore {

struct Retained {
  DominatorTree tree;
  Column<std::uint64_t> bytes;  // by node, of all it dominates and itself
  Rows children;                // in the tree, ascending
  std::vector<NodeId> top;      // which nothing dominates, the largest first
};

Retained find_retained(const HeapGraph& graph);

// What the objects of a type, or of a module's types, retain together. An object that another of the same group
// dominates is not counted once more.
struct RetainedGroup {
  std::string module;
  std::string name;  // empty for a module
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;  // the allocators'
  std::uint64_t retained_bytes = 0;
};

struct RetainedGroups {
  std::vector<RetainedGroup> types;
  std::vector<RetainedGroup> modules;
};

// Each largest first.
RetainedGroups group_retained(const HeapGraph& graph, const Retained& retained);

// The dominated of `node`, largest first.
std::vector<NodeId> largest_children(const Retained& retained, NodeId node);

// From `node` down to the largest child, until that is less than 0.7 of its parent.
NodeId accumulation_point(const Retained& retained, NodeId node);

}  // namespace heapcore
