// Strongly connected components of a graph: Tarjan's algorithm without recursion, linear in nodes and edges.
#pragma once

#include <cstdint>
#include <vector>

#include "analysis/graph.h"

namespace heapcore {

struct Components {
  // Of each node: the component, numbered so that a component's edges lead only to lower numbers and to itself; kNone
  // for a node that was left out.
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  std::vector<std::uint32_t> of;
  std::uint32_t count = 0;
};

// `left_out`, unless empty, has an entry for each node: true for those that are not there.
Components find_components(const Rows& graph, const std::vector<bool>& left_out = {});

// One node (the lowest) of each component that no other component leads to: from these, and from no fewer, all is
// reached.
std::vector<NodeId> source_nodes(const Rows& graph, const Components& components);

}  // namespace heapcore
