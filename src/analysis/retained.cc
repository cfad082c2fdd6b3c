#include "analysis/retained.h"

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <tuple>

#include "analysis/retained_sums.h"

namespace heapcore {
namespace {

constexpr double kAccumulates = 0.7;

void sort_largest_first(std::vector<NodeId>& nodes, const Retained& retained) {
  std::sort(nodes.begin(), nodes.end(), [&](NodeId a, NodeId b) {
    return retained.bytes[a] != retained.bytes[b] ? retained.bytes[a] > retained.bytes[b] : a < b;
  });
}

// Which group each node is of, of one way to group them. Raw blocks are a group of their own, the last.
struct Grouping {
  std::vector<RetainedGroup> groups;
  std::vector<std::uint32_t> of_type;

  Grouping(const TypeTable& types, bool by_name) : of_type(types.size()) {
    std::map<std::pair<std::string, std::string>, std::uint32_t> numbers;
    for (TypeId id = 0; id < types.size(); ++id) {
      const TypeInfo& info = types.info(id);
      const std::pair<std::string, std::string> key{info.module, by_name ? info.name : std::string()};
      const auto [entry, is_new] = numbers.try_emplace(key, static_cast<std::uint32_t>(groups.size()));
      if (is_new) groups.push_back({key.first, key.second, 0, 0, 0});
      of_type[id] = entry->second;
    }
    groups.push_back({"", "(raw blocks)", 0, 0, 0});
  }

  std::vector<RetainedGroup> sorted() {
    std::erase_if(groups, [](const RetainedGroup& group) { return group.count == 0; });
    std::sort(groups.begin(), groups.end(), [](const RetainedGroup& a, const RetainedGroup& b) {
      return std::tie(b.retained_bytes, a.module, a.name) < std::tie(a.retained_bytes, b.module, b.name);
    });
    return std::move(groups);
  }
};

// How nodes are grouped by their types, in two ways at once.
constexpr std::size_t kByType = 0;
constexpr std::size_t kByModule = 1;

}  // namespace

RetainedBytes::RetainedBytes(const BlockTable& blocks, const DominatorTree& tree, const Column<std::uint64_t>& of_order)
    : bytes_(blocks.size()) {
  std::mutex mutex;
  const auto set = [&](NodeId node, std::uint64_t bytes) {
    bytes_[node] = static_cast<std::uint32_t>(std::min<std::uint64_t>(bytes, kLarge));
    if (bytes < kLarge) return;
    const std::lock_guard lock(mutex);
    large_.emplace_back(node, bytes);
  };
  tbb::parallel_for(tbb::blocked_range<NodeId>(0, blocks.size()), [&](const auto& part) {
    for (NodeId node = part.begin(); node != part.end(); ++node) {
      if (tree.leaves.contains(node)) {
        set(node, tree.reached(node) ? blocks.bytes(node) : 0);
      } else if (!tree.reached(node)) {
        set(node, 0);
      }
    }
  });
  tbb::parallel_for(tbb::blocked_range<std::size_t>(0, of_order.size()), [&](const auto& part) {
    for (std::size_t i = part.begin(); i != part.end(); ++i) set(tree.order[i], of_order[i]);
  });
  std::sort(large_.begin(), large_.end());
}

std::uint64_t RetainedBytes::large(NodeId node) const {
  return std::lower_bound(large_.begin(), large_.end(), std::pair(node, std::uint64_t{0}))->second;
}

Retained find_retained(const HeapGraph& graph) {
  Retained result;
  result.tree = find_dominators(graph.out, graph.shared, graph.entries);
  const auto own = [&](NodeId node) { return graph.blocks.bytes(node); };
  result.bytes = RetainedBytes(graph.blocks, result.tree, retained_bytes(graph.out, result.tree, own));
  result.children = Rows::from_parents(result.tree.idom);
  for (std::size_t i = 0; i < result.tree.order.size(); ++i) {
    if (result.tree.above[i] == kNoNode) result.top.push_back(result.tree.order[i]);
  }
  sort_largest_first(result.top, result);
  return result;
}

RetainedGroups group_retained(const HeapGraph& graph, const Retained& retained) {
  std::array<Grouping, 2> groupings{Grouping(*graph.census.types, true), Grouping(*graph.census.types, false)};
  const auto group_of = [&](NodeId node, std::size_t way) {
    return graph.blocks.is_object(node) ? groupings[way].of_type[graph.blocks.type(node)]
                                        : static_cast<std::uint32_t>(groupings[way].groups.size() - 1);
  };
  const std::array<std::size_t, 2> counts{groupings[kByType].groups.size(), groupings[kByModule].groups.size()};
  const auto sums = TreeSummer<2, decltype(group_of)>(graph.blocks, retained, counts, group_of).run();
  for (const std::size_t way : {kByType, kByModule}) {
    for (std::size_t i = 0; i < sums[way].size(); ++i) {
      RetainedGroup& group = groupings[way].groups[i];
      group.count = sums[way][i].count;
      group.bytes = sums[way][i].bytes;
      group.retained_bytes = sums[way][i].retained_bytes;
    }
  }
  return {groupings[kByType].sorted(), groupings[kByModule].sorted()};
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
