#include "analysis/holder_tree.h"

#include <algorithm>
#include <array>
#include <tuple>

namespace heapcore {
namespace {

constexpr std::size_t kRanks = 6;

// The lower, the more a name of it tells.
std::size_t rank(const PyRuntime& runtime, const RootWord& root) {
  switch (root.kind) {
    case RootKind::kInterpreter:
      return is_namespace(runtime, root) ? 0 : 1;
    case RootKind::kFrame:
      return 1;
    case RootKind::kThread:
    case RootKind::kRuntime:
    case RootKind::kStatic:
      return 2;
    case RootKind::kStack:
      return 3;
    case RootKind::kImmortal:
    case RootKind::kUnexplained:
      return 4;
    case RootKind::kUnreachable:
      return 5;
  }
  return kRanks - 1;
}

}  // namespace

HolderTree::HolderTree(const PyRuntime& runtime, const Rows& out, const std::vector<RootRef>& roots)
    : parent_(out.nodes(), kNoNode) {
  std::vector<std::size_t> ranks;
  for (std::uint32_t i = 0; i < roots.size(); ++i) {
    ranks.push_back(rank(runtime, roots[i].word));
    root_of_.emplace_back(roots[i].target, i);
  }
  std::sort(root_of_.begin(), root_of_.end(), [&](const auto& a, const auto& b) {
    return std::tuple(a.first, ranks[a.second], a.second) < std::tuple(b.first, ranks[b.second], b.second);
  });
  root_of_.erase(
      std::unique(root_of_.begin(), root_of_.end(), [](const auto& a, const auto& b) { return a.first == b.first; }),
      root_of_.end());
  std::array<std::vector<NodeId>, kRanks> starts;
  for (const auto& [entry, index] : root_of_) starts[ranks[index]].push_back(entry);
  for (const std::vector<NodeId>& from : starts) search(out, from);
}

// Breadth first, from those of them that nothing reached yet.
void HolderTree::search(const Rows& out, const std::vector<NodeId>& from) {
  Column<NodeId> queue(from.begin(), from.end());
  std::erase_if(queue, [this](NodeId node) { return parent_[node] != kNoNode; });
  for (const NodeId node : queue) parent_[node] = node;
  for (std::size_t at = 0; at < queue.size(); ++at) {
    const NodeId node = queue[at];
    for (const NodeId to : out.row(node)) {
      if (parent_[to] != kNoNode) continue;
      parent_[to] = node;
      if (!out.row(to).empty()) queue.push_back(to);
    }
  }
}

std::optional<std::uint32_t> HolderTree::root(NodeId node) const {
  if (parent_[node] != node) return std::nullopt;
  const auto found = std::lower_bound(root_of_.begin(), root_of_.end(), std::pair<NodeId, std::uint32_t>{node, 0});
  if (found == root_of_.end() || found->first != node) return std::nullopt;
  return found->second;
}

}  // namespace heapcore
