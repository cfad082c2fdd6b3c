// The dominator tree over the whole heap: what would go if this went.
//
// Retained bytes are the allocators' (blocks with their headers), owned buffers included.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "analysis/dominators.h"
#include "analysis/heap_graph.h"

namespace heapcore {

// By node; in 32 bits where those are enough.
class RetainedBytes {
 public:
  RetainedBytes() = default;
  // `of_order`: as retained_bytes() has it.
  RetainedBytes(const BlockTable& blocks, const DominatorTree& tree, const Column<std::uint64_t>& of_order);

  std::uint64_t operator[](NodeId node) const { return bytes_[node] != kLarge ? bytes_[node] : large(node); }

 private:
  static constexpr std::uint32_t kLarge = ~std::uint32_t{0};

  std::uint64_t large(NodeId node) const;

  Column<std::uint32_t> bytes_;
  std::vector<std::pair<NodeId, std::uint64_t>> large_;  // sorted
};

struct Retained {
  DominatorTree tree;
  RetainedBytes bytes;      // of all a node dominates and itself; 0 if nothing reaches it
  Rows children;            // in the tree, ascending
  std::vector<NodeId> top;  // which nothing dominates, the largest first
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
