// What groups of nodes retain together: one way through the dominator tree, depth first, on which a node that another
// of its group lies above is not counted once more. Nodes may be grouped in several ways at once. Long rows are split
// among threads; the sums do not depend on how many there are.
#pragma once

#include <tbb/enumerable_thread_specific.h>
#include <tbb/task_group.h>

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "analysis/retained.h"

namespace heapcore {

struct TreeSum {
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;  // the allocators'
  std::uint64_t retained_bytes = 0;
};

// `GroupOf(node, way)`: the number of the node's group, less than the way's count of groups; called by several threads.
template <std::size_t kWays, typename GroupOf>
class TreeSummer {
 public:
  using Sums = std::array<std::vector<TreeSum>, kWays>;

  TreeSummer(const BlockTable& blocks, const Retained& retained, const std::array<std::size_t, kWays>& groups,
             const GroupOf& group_of)
      : blocks_(blocks), retained_(retained), groups_(groups), group_of_(group_of) {}

  Sums run() {
    Above above;
    for (std::size_t way = 0; way < kWays; ++way) above[way].resize(groups_[way]);
    tasks_.run_and_wait([&] { descend(retained_.top, above); });
    Sums all;
    for (std::size_t way = 0; way < kWays; ++way) {
      all[way].resize(groups_[way]);
      for (const Sums& sums : sums_) {
        for (std::size_t i = 0; i < sums[way].size(); ++i) {
          all[way][i].count += sums[way][i].count;
          all[way][i].bytes += sums[way][i].bytes;
          all[way][i].retained_bytes += sums[way][i].retained_bytes;
        }
      }
    }
    return all;
  }

 private:
  using Above = std::array<std::vector<std::uint32_t>, kWays>;  // how many of each group lie above
  struct Frame {
    NodeId node;
    std::span<const NodeId> children;
  };

  static constexpr std::size_t kMostChildren = 4096;

  Sums& sums() {
    Sums& local = sums_.local();
    for (std::size_t way = 0; way < kWays; ++way) local[way].resize(groups_[way]);
    return local;
  }

  void add(NodeId node, const Above& above, Sums& sums) const {
    const std::uint64_t bytes = blocks_.bytes(node);
    for (std::size_t way = 0; way < kWays; ++way) {
      const std::uint32_t group = group_of_(node, way);
      TreeSum& sum = sums[way][group];
      ++sum.count;
      sum.bytes += bytes;
      if (above[way][group] == 0) sum.retained_bytes += retained_.bytes[node];
    }
  }

  void count_above(NodeId node, Above& above, std::uint32_t change) const {
    for (std::size_t way = 0; way < kWays; ++way) above[way][group_of_(node, way)] += change;
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

  const BlockTable& blocks_;
  const Retained& retained_;
  std::array<std::size_t, kWays> groups_;
  const GroupOf& group_of_;
  tbb::task_group tasks_;
  tbb::enumerable_thread_specific<Sums> sums_;
};

}  // namespace heapcore
