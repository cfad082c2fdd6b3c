#include "analysis/retained.h"

#include <tbb/blocked_range.h>
#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>
#include <tbb/task_group.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <tuple>

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

// Sums up both groupings on one way through the tree, depth first. Long rows are split among threads.
class GroupSummer {
 public:
  GroupSummer(const HeapGraph& graph, const Retained& retained)
      : graph_(graph),
        retained_(retained),
        groupings_{Grouping(*graph.census.types, true), Grouping(*graph.census.types, false)} {}

  RetainedGroups run() {
    Above above;
    for (int by : {0, 1}) above[by].resize(groupings_[by].groups.size());
    tasks_.run_and_wait([&] { descend(retained_.top, above); });
    for (const Sums& sums : sums_) {
      for (int by : {0, 1}) {
        for (std::size_t i = 0; i < sums[by].size(); ++i) {
          groupings_[by].groups[i].count += sums[by][i].count;
          groupings_[by].groups[i].bytes += sums[by][i].bytes;
          groupings_[by].groups[i].retained_bytes += sums[by][i].retained_bytes;
        }
      }
    }
    return {groupings_[0].sorted(), groupings_[1].sorted()};
  }

 private:
  struct Sum {
    std::uint64_t count = 0;
    std::uint64_t bytes = 0;
    std::uint64_t retained_bytes = 0;
  };
  using Sums = std::array<std::vector<Sum>, 2>;
  using Above = std::array<std::vector<std::uint32_t>, 2>;  // how many of each group lie above
  struct Frame {
    NodeId node;
    std::span<const NodeId> children;
  };

  static constexpr std::size_t kMostChildren = 4096;

  std::uint32_t group_of(NodeId node, int by) const {
    return graph_.blocks.is_object(node) ? groupings_[by].of_type[graph_.blocks.type(node)]
                                         : static_cast<std::uint32_t>(groupings_[by].groups.size() - 1);
  }

  Sums& sums() {
    Sums& local = sums_.local();
    for (int by : {0, 1}) local[by].resize(groupings_[by].groups.size());
    return local;
  }

  void add(NodeId node, const Above& above, Sums& sums) const {
    const std::uint64_t bytes = graph_.blocks.bytes(node);
    for (int by : {0, 1}) {
      const std::uint32_t group = group_of(node, by);
      Sum& sum = sums[by][group];
      ++sum.count;
      sum.bytes += bytes;
      if (above[by][group] == 0) sum.retained_bytes += retained_.bytes[node];
    }
  }

  void count_above(NodeId node, Above& above, std::uint32_t change) const {
    for (int by : {0, 1}) above[by][group_of(node, by)] += change;
  }

  // `nodes` have the same parent.
  void descend(std::span<const NodeId> nodes, Above above) {
    Sums& sums = this->sums();
    std::vector<Frame> stack;
    for (std::span<const NodeId>* next = &nodes; !next->empty() || !stack.empty();) {
      if (next->empty()) {
        count_above(stack.back().node, above, ~0U);
        stack.pop_back();
      } else {
        for (; next->size() > kMostChildren; *next = next->first(next->size() - kMostChildren))
          tasks_.run([this, part = next->last(kMostChildren), above] { descend(part, above); });
        const NodeId node = next->front();
        *next = next->subspan(1);
        add(node, above, sums);
        const auto children = retained_.children.row(node);
        if (!children.empty()) {
          count_above(node, above, 1);
          stack.push_back({node, children});
        }
      }
      next = stack.empty() ? &nodes : &stack.back().children;
    }
  }

  const HeapGraph& graph_;
  const Retained& retained_;
  std::array<Grouping, 2> groupings_;
  tbb::task_group tasks_;
  tbb::enumerable_thread_specific<Sums> sums_;
};

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
  return GroupSummer(graph, retained).run();
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
