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
  std::vector<NodeId> idom;   // of the root itself and of unreachable nodes: kNoNode
  std::vector<NodeId> order;  // reachable nodes in preorder of a depth-first search; the root first
};

// `reverse` must be forward.reversed().
DominatorTree find_dominators(const Rows& forward, const Rows& reverse, NodeId root);

// Of each node, its own bytes and those of all it dominates; 0 for the unreachable.
std::vector<std::uint64_t> retained_bytes(const DominatorTree& tree, std::span<const std::uint32_t> bytes);

}  // namespace heapcore
