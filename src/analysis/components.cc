#include "analysis/components.h"

#include <algorithm>

namespace heapcore {

Components find_components(const Rows& graph, const std::vector<bool>& left_out) {
  const std::size_t nodes = graph.nodes();
  struct Frame {
    NodeId node;
    std::uint32_t next;
  };
  Components result;
  result.of.assign(nodes, Components::kNone);
  const auto is_out = [&](std::size_t node) { return !left_out.empty() && left_out[node]; };
  std::vector<std::uint32_t> number(nodes, 0);  // in which nodes were met, from 1; 0: not yet
  std::vector<std::uint32_t> low(nodes, 0);     // the lowest number known to be reached
  std::vector<NodeId> open;                     // met, their component not yet known
  std::vector<Frame> stack;
  std::uint32_t met = 0;
  const auto enter = [&](NodeId node) {
    number[node] = low[node] = ++met;
    open.push_back(node);
    stack.push_back({node, 0});
  };
  for (std::size_t start = 0; start < nodes; ++start) {
    if (number[start] != 0 || is_out(start)) continue;
    enter(static_cast<NodeId>(start));
    while (!stack.empty()) {
      const NodeId node = stack.back().node;
      const auto row = graph.row(node);
      if (stack.back().next < row.size()) {
        const NodeId target = row[stack.back().next++];
        if (is_out(target)) continue;
        if (number[target] == 0) {
          enter(target);
        } else if (result.of[target] == Components::kNone) {
          low[node] = std::min(low[node], number[target]);
        }
        continue;
      }
      stack.pop_back();
      if (!stack.empty()) low[stack.back().node] = std::min(low[stack.back().node], low[node]);
      if (low[node] != number[node]) continue;
      NodeId member = kNoNode;
      do {
        member = open.back();
        open.pop_back();
        result.of[member] = result.count;
      } while (member != node);
      ++result.count;
    }
  }
  return result;
}

std::vector<NodeId> source_nodes(const Rows& graph, const Components& components) {
  std::vector<bool> led_to(components.count, false);
  for (std::size_t node = 0; node < graph.nodes(); ++node) {
    const std::uint32_t from = components.of[node];
    if (from == Components::kNone) continue;
    for (const NodeId target : graph.row(static_cast<NodeId>(node))) {
      const std::uint32_t to = components.of[target];
      if (to != from && to != Components::kNone) led_to[to] = true;
    }
  }
  std::vector<NodeId> sources;
  for (std::size_t node = 0; node < graph.nodes(); ++node) {
    const std::uint32_t component = components.of[node];
    if (component == Components::kNone || led_to[component]) continue;
    sources.push_back(static_cast<NodeId>(node));
    led_to[component] = true;
  }
  return sources;
}

}  // namespace heapcore
