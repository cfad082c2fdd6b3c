// Strongly connected components of a graph: Tarjan's algorithm without recursion, linear in nodes and edges.
#pragma once

#include <cstdint>
#include <vector>

#include "analysis/graph.h"

namespace heapcore {

struct Components {
  // Of each node: the component, numbered so that a component's edges lead only to lower numbers and to itself.
  std::vector<std::uint32_t> of;
  std::uint32_t count = 0;
};

Components find_components(const Rows& graph);

}  // namespace heapcore
