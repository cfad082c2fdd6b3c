#include "analysis/retained.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace heapcore {
namespace {

constexpr double kAccumulates = 0.7;

// The tree's edges: each node's row is what it immediately dominates, in preorder.
Rows tree_rows(const DominatorTree& tree) {
  const std::size_t nodes = tree.idom.size();
  std::vector<Rows::Block> blocks((nodes + Rows::kBlockNodes - 1) >> Rows::kBlockBits);
  std::vector<std::uint32_t> degree(nodes, 0);
  for (const NodeId parent : tree.idom) {
    if (parent < nodes) ++degree[parent];
  }
  std::vector<std::uint32_t> next(nodes, 0);
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    std::uint32_t total = 0;
    for (std::size_t node = b << Rows::kBlockBits; node < std::min(nodes, (b + 1) << Rows::kBlockBits); ++node) {
      next[node] = total;
      total += degree[node];
      blocks[b].degrees.push_back(degree[node]);
    }
    blocks[b].targets.resize(total);
  }
  for (const NodeId node : tree.order) {
    const NodeId parent = tree.idom[node];
    if (parent < nodes) blocks[parent >> Rows::kBlockBits].targets[next[parent]++] = node;
  }
  return Rows::from_blocks(nodes, std::move(blocks));
}

void sort_largest_first(std::vector<NodeId>& nodes, const Retained& retained) {
  std::sort(nodes.begin(), nodes.end(), [&](NodeId a, NodeId b) {
    return retained.bytes[a] != retained.bytes[b] ? retained.bytes[a] > retained.bytes[b] : a < b;
  });
}

}  // namespace

Retained find_retained(const HeapGraph& graph) {
  Retained result;
  result.tree = find_dominators(graph.out, graph.in, graph.entries);
  std::vector<std::uint64_t> own(graph.blocks.size());
  for (NodeId node = 0; node < graph.blocks.size(); ++node) own[node] = graph.blocks.bytes(node);
  result.bytes = retained_bytes(result.tree, std::move(own));
  result.children = tree_rows(result.tree);
  for (const NodeId node : result.tree.order) {
    if (result.tree.idom[node] == result.tree.virtual_root()) result.top.push_back(node);
  }
  sort_largest_first(result.top, result);
  return result;
}

std::vector<RetainedGroup> group_retained(const HeapGraph& graph, const Retained& retained, RetainedBy by) {
  const TypeTable& types = *graph.census.types;
  // Raw blocks are a group of their own, the last.
  std::map<std::pair<std::string, std::string>, std::size_t> numbers;
  std::vector<std::size_t> group_of_type(types.size());
  std::vector<RetainedGroup> groups;
  for (TypeId id = 0; id < types.size(); ++id) {
    const TypeInfo& info = types.info(id);
    const std::pair<std::string, std::string> key{info.module, by == RetainedBy::kType ? info.name : std::string()};
    const auto [entry, is_new] = numbers.try_emplace(key, groups.size());
    if (is_new) groups.push_back({key.first, key.second, 0, 0, 0});
    group_of_type[id] = entry->second;
  }
  groups.push_back({"", "(raw blocks)", 0, 0, 0});
  const auto group_of = [&](NodeId node) {
    return graph.blocks.is_object(node) ? group_of_type[graph.blocks.type(node)] : groups.size() - 1;
  };
  // Depth first through the tree, counting how many of each group lie above.
  std::vector<std::uint32_t> above(groups.size(), 0);
  std::vector<std::pair<NodeId, std::uint32_t>> stack;
  const auto enter = [&](NodeId node) {
    RetainedGroup& group = groups[group_of(node)];
    ++group.count;
    group.bytes += graph.blocks.bytes(node);
    if (above[group_of(node)]++ == 0) group.retained_bytes += retained.bytes[node];
    stack.emplace_back(node, 0);
  };
  for (const NodeId top : retained.top) {
    enter(top);
    while (!stack.empty()) {
      const NodeId node = stack.back().first;
      const auto row = retained.children.row(node);
      if (stack.back().second < row.size()) {
        enter(row[stack.back().second++]);
      } else {
        --above[group_of(node)];
        stack.pop_back();
      }
    }
  }
  std::erase_if(groups, [](const RetainedGroup& group) { return group.count == 0; });
  std::sort(groups.begin(), groups.end(), [](const RetainedGroup& a, const RetainedGroup& b) {
    return std::tie(b.retained_bytes, a.module, a.name) < std::tie(a.retained_bytes, b.module, b.name);
  });
  return groups;
}

std::vector<NodeId> largest_children(const Retained& retained, NodeId node) {
  const auto row = retained.children.row(node);
  std::vector<NodeId> children(row.begin(), row.end());
  sort_largest_first(children, retained);
  return children;
}

NodeId accumulation_point(const Retained& retained, NodeId node) {
  for (;;) {
    NodeId largest = kNoNode;
    for (const NodeId child : retained.children.row(node)) {
      if (largest == kNoNode || retained.bytes[child] > retained.bytes[largest]) largest = child;
    }
    if (largest == kNoNode ||
        static_cast<double>(retained.bytes[largest]) < kAccumulates * static_cast<double>(retained.bytes[node])) {
      return node;
    }
    node = largest;
  }
}

}  // namespace heapcore
