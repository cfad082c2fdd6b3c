// Strongly connected components of a graph: Pearce's form of Tarjan's algorithm ("A Space-Efficient Algorithm for
// Finding Strongly Connected Components", 2016), linear in nodes and edges, without recursion. 4 bytes a node, and two
// stacks of nodes that lead somewhere.
#pragma once

#include <cstdint>
#include <vector>

#include "analysis/graph.h"

namespace heapcore {

struct Components {
  // Of each node: the component, numbered so that a component's edges lead only to lower numbers and to itself.
  Column<std::uint32_t> of;
  std::uint32_t count = 0;
};

Components find_components(const Rows& graph);

// Of the graph without the nodes `left_out`: one node (the lowest) of each component that no other component leads to.
// From these, and from no fewer, all is reached. Ascending.
std::vector<NodeId> source_nodes(const Rows& graph, const NodeSet& left_out);

}  // namespace heapcore
