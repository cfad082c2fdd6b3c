// Dominators of a rooted graph, by Semi-NCA (Georgiadis, Tarjan, Werneck: "Finding Dominators in Practice", 2006), and
// what they retain.
//
// d dominates v if every path from the root to v leads through d; so if d went, v would go. The nearest such d is v's
// immediate dominator. Time is near linear in edges; no recursion.
//
// Most of a heap are leaves: nodes that lead nowhere and that a single edge leads to, such as the strings and numbers
// of one container. Where that edge comes from dominates them, whatever the rest is like; the search goes past them.
#pragma once

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>

#include <cstdint>
#include <span>
#include <vector>

#include "analysis/graph.h"

namespace heapcore {

struct DominatorTree {
  // Of each node; `virtual_root()` where nothing but the root dominates it, kNoNode where no entry leads to it.
  Column<NodeId> idom;
  Column<NodeId> order;  // reached nodes but for the leaves, in preorder of a depth-first search
  Column<NodeId> above;  // of each in `order`, its dominator's place there; kNoNode if that is the root
  NodeSet leaves;

  NodeId virtual_root() const { return static_cast<NodeId>(idom.size()); }
  bool reached(NodeId node) const { return idom[node] != kNoNode; }
};

// Of the graph with one root more, from which an edge leads to each of `entries`; they are searched in their order.
// `shared` has every node that several edges lead to, and perhaps others.
DominatorTree find_dominators(const Rows& graph, const NodeSet& shared, std::span<const NodeId> entries);

// Of each node in tree.order, its own bytes and those of all it dominates; `own` says a node's. `graph` is that of the
// tree.
template <typename Own>
Column<std::uint64_t> retained_bytes(const Rows& graph, const DominatorTree& tree, Own&& own) {
  Column<std::uint64_t> bytes(tree.order.size());
  tbb::parallel_for(tbb::blocked_range<std::size_t>(0, bytes.size()), [&](const auto& part) {
    for (std::size_t i = part.begin(); i != part.end(); ++i) {
      std::uint64_t sum = own(tree.order[i]);
      for (const NodeId to : graph.row(tree.order[i])) {
        if (tree.leaves.contains(to)) sum += own(to);
      }
      bytes[i] = sum;
    }
  });
  for (std::size_t i = bytes.size(); i-- > 0;) {
    if (tree.above[i] != kNoNode) bytes[tree.above[i]] += bytes[i];
  }
  return bytes;
}

}  // namespace heapcore
