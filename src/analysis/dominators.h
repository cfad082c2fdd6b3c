// Dominators of a rooted graph, by Semi-NCA (Georgiadis, Tarjan, Werneck: "Finding Dominators in Practice", 2006), and
// what they retain.
//
// d dominates v if every path from the root to v leads through d; so if d went, v would go. The nearest such d is v's
// immediate dominator. Time is near linear in edges; no recursion.
//
// Most of a heap are leaves: nodes that lead nowhere and that a single edge leads to, such as the strings and numbers
// of one container. Where that edge comes from dominates them, whatever the rest is like; the search goes past them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "analysis/graph.h"

namespace heapcore {

struct DominatorTree {
  // Of each node; `virtual_root()` where nothing but the root dominates it, kNoNode where no entry leads to it.
  Column<NodeId> idom;
  Column<NodeId> order;  // reached nodes but for the leaves, in preorder of a depth-first search
  NodeSet leaves;

  NodeId virtual_root() const { return static_cast<NodeId>(idom.size()); }
  bool reached(NodeId node) const { return idom[node] != kNoNode; }
};

// Of the graph with one root more, from which an edge leads to each of `entries`; they are searched in their order.
// `shared` has every node that several edges lead to, and perhaps others.
DominatorTree find_dominators(const Rows& graph, const NodeSet& shared, std::span<const NodeId> entries);

// Of each node's own `bytes` makes its own and those of all it dominates; 0 for those not reached. `graph` is that of
// the tree.
Column<std::uint64_t> retained_bytes(const Rows& graph, const DominatorTree& tree, Column<std::uint64_t> bytes);

}  // namespace heapcore
