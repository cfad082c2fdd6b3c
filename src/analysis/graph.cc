#include "analysis/graph.h"

#include <tbb/parallel_for.h>
#include <tbb/task_group.h>

#include <algorithm>

namespace heapcore {
namespace {

std::size_t block_count(std::size_t nodes) {
  return (nodes + Rows::kBlockNodes - 1) >> Rows::kBlockBits;
}

// Goes from node to node, and gives parts of what is still to do to other threads.
class Explorer {
 public:
  explicit Explorer(const Rows& graph) : graph_(graph), reached_(graph.nodes()) {}

  NodeSet run(std::span<const NodeId> from) {
    std::vector<NodeId> pending;
    for (const NodeId node : from) meet(node, pending);
    tasks_.run_and_wait([&] { explore(std::move(pending)); });
    return std::move(reached_);
  }

 private:
  static constexpr std::size_t kPart = 4096;

  void meet(NodeId node, std::vector<NodeId>& pending) {
    if (reached_.shared_insert(node) && !graph_.row(node).empty()) pending.push_back(node);
  }

  void explore(std::vector<NodeId> pending) {
    while (!pending.empty()) {
      if (pending.size() >= 2 * kPart) {
        tasks_.run([this, part = std::vector<NodeId>(pending.end() - kPart, pending.end())] { explore(part); });
        pending.resize(pending.size() - kPart);
      }
      const NodeId node = pending.back();
      pending.pop_back();
      for (const NodeId to : graph_.row(node)) meet(to, pending);
    }
  }

  const Rows& graph_;
  NodeSet reached_;
  tbb::task_group tasks_;
};

}  // namespace

Rows::Rows(std::size_t nodes) : nodes_(nodes), bases_(block_count(nodes), 0), offsets_(nodes + block_count(nodes), 0) {}

Rows Rows::unset(std::size_t nodes) {
  Rows rows;
  rows.nodes_ = nodes;
  rows.bases_.resize(block_count(nodes));
  rows.offsets_ = Column<std::uint32_t>(nodes + block_count(nodes));
  return rows;
}

Rows Rows::from_blocks(std::size_t nodes, std::vector<Block> blocks) {
  Rows rows = unset(nodes);
  std::uint64_t total = 0;
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    rows.bases_[b] = total;
    total += blocks[b].targets.size();
  }
  rows.targets_ = Column<NodeId>(total);
  tbb::parallel_for(std::size_t{0}, blocks.size(), [&](std::size_t b) {
    Block& block = blocks[b];
    std::uint32_t offset = 0;
    std::size_t at = place(b << kBlockBits);
    for (const std::uint32_t degree : block.degrees) {
      rows.offsets_[at++] = offset;
      offset += degree;
    }
    rows.offsets_[at] = offset;
    std::copy(block.targets.begin(), block.targets.end(),
              rows.targets_.begin() + static_cast<std::ptrdiff_t>(rows.bases_[b]));
    block = {};
  });
  return rows;
}

// How many edges leave a node first; then each edge takes the next free place of its row.
template <typename ForEachEdge>
Rows Rows::from_edges(std::size_t nodes, ForEachEdge&& for_each_edge) {
  Rows rows(nodes);
  const auto take = [&](NodeId from) {
    return std::atomic_ref<std::uint32_t>(rows.offsets_[place(from)]).fetch_add(1, std::memory_order_relaxed);
  };
  tbb::parallel_for(std::size_t{0}, rows.blocks(),
                    [&](std::size_t b) { for_each_edge(b, [&](NodeId from, NodeId /*to*/) { take(from); }); });
  rows.place_rows();
  tbb::parallel_for(std::size_t{0}, rows.blocks(), [&](std::size_t b) {
    for_each_edge(b, [&](NodeId from, NodeId to) { rows.targets_[rows.bases_[from >> kBlockBits] + take(from)] = to; });
  });
  // Each row's start is now its end, which is the start of the next. Which thread came first must not show.
  tbb::parallel_for(std::size_t{0}, rows.blocks(), [&](std::size_t b) {
    const std::size_t end = std::min(nodes, (b + 1) << kBlockBits);
    std::uint32_t* const offsets = &rows.offsets_[place(b << kBlockBits)];
    std::copy_backward(offsets, offsets + (end - (b << kBlockBits)), offsets + (end - (b << kBlockBits)) + 1);
    offsets[0] = 0;
    for (std::size_t i = 0; i < end - (b << kBlockBits); ++i) {
      if (offsets[i + 1] - offsets[i] < 2) continue;
      NodeId* const row = rows.targets_.data() + rows.bases_[b] + offsets[i];
      NodeId* const row_end = rows.targets_.data() + rows.bases_[b] + offsets[i + 1];
      if (!std::is_sorted(row, row_end)) std::sort(row, row_end);
    }
  });
  return rows;
}

// Makes offsets of degrees, and room for the targets.
void Rows::place_rows() {
  std::vector<std::uint64_t> totals(blocks());
  tbb::parallel_for(std::size_t{0}, blocks(), [&](std::size_t b) {
    std::uint32_t total = 0;
    for (std::size_t node = b << kBlockBits; node < std::min(nodes_, (b + 1) << kBlockBits); ++node) {
      const std::uint32_t degree = offsets_[place(node)];
      offsets_[place(node)] = total;
      total += degree;
    }
    totals[b] = total;
  });
  std::uint64_t total = 0;
  for (std::size_t b = 0; b < blocks(); ++b) {
    bases_[b] = total;
    total += totals[b];
  }
  targets_ = Column<NodeId>(total);
}

Rows Rows::reversed() const {
  return from_edges(nodes_, [this](std::size_t b, auto&& visit) {
    for (std::size_t node = b << kBlockBits; node < std::min(nodes_, (b + 1) << kBlockBits); ++node) {
      for (const NodeId target : row(static_cast<NodeId>(node))) visit(target, static_cast<NodeId>(node));
    }
  });
}

Rows Rows::from_parents(std::span<const NodeId> parents) {
  return from_edges(parents.size(), [parents](std::size_t b, auto&& visit) {
    for (std::size_t node = b << kBlockBits; node < std::min(parents.size(), (b + 1) << kBlockBits); ++node) {
      if (parents[node] < parents.size()) visit(parents[node], static_cast<NodeId>(node));
    }
  });
}

NodeSet reachable(const Rows& graph, std::span<const NodeId> from) {
  return Explorer(graph).run(from);
}

NodeSet shared_nodes(const Rows& graph) {
  NodeSet led_to(graph.nodes());
  NodeSet shared(graph.nodes());
  for (std::size_t node = 0; node < graph.nodes(); ++node) {
    for (const NodeId target : graph.row(static_cast<NodeId>(node))) {
      if (!led_to.insert(target)) shared.insert(target);
    }
  }
  return shared;
}

}  // namespace heapcore
