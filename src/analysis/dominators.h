// Dominators of a rooted graph, by Semi-NCA (Georgiadis, Tarjan, Werneck: "Finding Dominators in Practice", 2006), and
// what they retain.
//
// d dominates v if every path from the root to v leads through d; so if d went, v would go. The nearest such d is v's
// immediate dominator. Time is near linear in edges; no recursion.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "analysis/graph.h"

namespace heapcore {

struct DominatorTree {
  // Of each node; `virtual_root()` where nothing but the root dominates it, kNoNode where no entry leads to it.
  std::vector<NodeId> idom;
  std::vector<NodeId> order;  // reached nodes in preorder of a depth-first search

  NodeId virtual_root() const { return static_cast<NodeId>(idom.size()); }
  bool reached(NodeId node) const { return idom[node] != kNoNode; }
};

// Of the graph with one root more, from which an edge leads to each of `entries`; they are searched in their order.
// `reverse` must be forward.reversed().
DominatorTree find_dominators(const Rows& forward, const Rows& reverse, std::span<const NodeId> entries);

// Of each node's own `bytes` makes its own and those of all it dominates; 0 for those not reached.
std::vector<std::uint64_t> retained_bytes(const DominatorTree& tree, std::vector<std::uint64_t> bytes);

}  // namespace heapcore
