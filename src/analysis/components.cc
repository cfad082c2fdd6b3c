#include "analysis/components.h"

#include <algorithm>

namespace heapcore {

Components find_components(const Rows& graph) {
  const std::size_t nodes = graph.nodes();
  struct Frame {
    NodeId node;
    std::uint32_t next;
  };
  Components result;
  result.of.assign(nodes, ~0U);
  std::vector<std::uint32_t> low(nodes, 0);  // 0: not met; then the lowest number known to be reached, from 1
  std::vector<NodeId> open;                  // met, their component not yet known
  std::vector<Frame> stack;
  std::uint32_t met = 0;
  std::vector<std::uint32_t> number(nodes, 0);
  const auto enter = [&](NodeId node) {
    number[node] = low[node] = ++met;
    open.push_back(node);
    stack.push_back({node, 0});
  };
  for (std::size_t start = 0; start < nodes; ++start) {
    if (number[start] != 0) continue;
    enter(static_cast<NodeId>(start));
    while (!stack.empty()) {
      const NodeId node = stack.back().node;
      const auto row = graph.row(node);
      if (stack.back().next < row.size()) {
        const NodeId target = row[stack.back().next++];
        if (number[target] == 0) {
          enter(target);
        } else if (result.of[target] == ~0U) {
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

}  // namespace heapcore
