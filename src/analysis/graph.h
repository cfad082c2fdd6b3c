// A directed graph in compressed sparse rows, as large as a heap: nodes are 32-bit ids, a row is the span of a node's
// targets. Built once, never changed; the same whatever the number of threads.
//
// Costs 4 bytes a node and 4 an edge. What the nodes stand for is for others to know (heap_graph.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace heapcore {

using NodeId = std::uint32_t;
inline constexpr NodeId kNoNode = ~NodeId{0};

class Rows {
 public:
  // Nodes are numbered in blocks of this many; a block's rows are contiguous, so a row's start fits 32 bits.
  static constexpr unsigned kBlockBits = 16;
  static constexpr std::size_t kBlockNodes = std::size_t{1} << kBlockBits;

  Rows() = default;

  // Rows for `nodes` nodes, all empty.
  explicit Rows(std::size_t nodes);

  std::size_t nodes() const { return nodes_; }
  std::uint64_t edges() const { return targets_.size(); }

  std::span<const NodeId> row(NodeId node) const {
    const std::uint64_t begin = start(node);
    return {targets_.data() + begin, static_cast<std::size_t>(start(node + 1) - begin)};
  }

  // One block's rows as they are made: block b holds the nodes from b * kBlockNodes on, `degrees` one entry each.
  struct Block {
    std::vector<std::uint32_t> degrees;
    std::vector<NodeId> targets;
  };

  // Takes the blocks over. REQUIRES: blocks of kBlockNodes nodes each but for the last, every target < nodes.
  static Rows from_blocks(std::size_t nodes, std::vector<Block> blocks);

  // The same edges turned round. Rows are sorted.
  Rows reversed() const;

 private:
  std::uint64_t start(NodeId node) const { return bases_[node >> kBlockBits] + offsets_[node]; }

  std::size_t nodes_ = 0;
  std::vector<std::uint64_t> bases_{0};    // of each block, and one more
  std::vector<std::uint32_t> offsets_{0};  // within its block, of each node, and one more
  std::vector<NodeId> targets_;
};

}  // namespace heapcore
