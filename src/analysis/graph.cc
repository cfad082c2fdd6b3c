#include "analysis/graph.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <atomic>
#include <memory>

namespace heapcore {
namespace {

std::size_t block_count(std::size_t nodes) {
  return (nodes + Rows::kBlockNodes - 1) >> Rows::kBlockBits;
}

}  // namespace

Rows::Rows(std::size_t nodes) : nodes_(nodes), bases_((nodes >> kBlockBits) + 1, 0), offsets_(nodes + 1, 0) {}

Rows Rows::from_blocks(std::size_t nodes, std::vector<Block> blocks) {
  Rows rows(nodes);
  std::uint64_t total = 0;
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    rows.bases_[b] = total;
    total += blocks[b].targets.size();
  }
  // The end of the last row is the start of the node behind it: of a block of its own, or in the last block.
  if (block_count(nodes) == nodes >> kBlockBits) rows.bases_[nodes >> kBlockBits] = total;
  rows.targets_.resize(total);
  tbb::parallel_for(std::size_t{0}, blocks.size(), [&](std::size_t b) {
    Block& block = blocks[b];
    std::uint32_t offset = 0;
    std::size_t node = b << kBlockBits;
    for (const std::uint32_t degree : block.degrees) {
      rows.offsets_[node++] = offset;
      offset += degree;
    }
    if (node == nodes && (node & (kBlockNodes - 1)) != 0) rows.offsets_[node] = offset;
    std::copy(block.targets.begin(), block.targets.end(),
              rows.targets_.begin() + static_cast<std::ptrdiff_t>(rows.bases_[b]));
    block = {};
  });
  return rows;
}

Rows Rows::reversed() const {
  Rows result(nodes_);
  if (nodes_ == 0) return result;
  // In-degrees first; then each edge takes the next free place of its target's row.
  const std::unique_ptr<std::atomic<std::uint32_t>[]> next(new std::atomic<std::uint32_t>[nodes_]());
  const auto for_each_block = [&](auto&& visit) {
    tbb::parallel_for(std::size_t{0}, block_count(nodes_), [&](std::size_t b) {
      const std::size_t end = std::min(nodes_, (b + 1) << kBlockBits);
      for (std::size_t node = b << kBlockBits; node < end; ++node) visit(static_cast<NodeId>(node));
    });
  };
  for_each_block([&](NodeId node) {
    for (const NodeId target : row(node)) next[target].fetch_add(1, std::memory_order_relaxed);
  });
  std::uint64_t total = 0;
  for (std::size_t node = 0; node <= nodes_; ++node) {
    if ((node & (kBlockNodes - 1)) == 0) result.bases_[node >> kBlockBits] = total;
    const auto offset = static_cast<std::uint32_t>(total - result.bases_[node >> kBlockBits]);
    result.offsets_[node] = offset;
    if (node < nodes_) total += next[node].exchange(offset, std::memory_order_relaxed);
  }
  result.targets_.resize(total);
  for_each_block([&](NodeId node) {
    for (const NodeId target : row(node)) {
      const std::uint32_t at = next[target].fetch_add(1, std::memory_order_relaxed);
      result.targets_[result.bases_[target >> kBlockBits] + at] = node;
    }
  });
  // Which thread came first must not show.
  for_each_block([&](NodeId node) {
    const std::uint64_t begin = result.start(node);
    std::sort(result.targets_.begin() + static_cast<std::ptrdiff_t>(begin),
              result.targets_.begin() + static_cast<std::ptrdiff_t>(result.start(node + 1)));
  });
  return result;
}

}  // namespace heapcore
