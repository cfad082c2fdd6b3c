// A directed graph in compressed sparse rows, as large as a heap: nodes are 32-bit ids, a row is the span of a node's
// targets. Built once, never changed; the same whatever the number of threads.
//
// Costs 4 bytes a node and 4 an edge. What the nodes stand for is for others to know (heap_graph.h).
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "support/column.h"

namespace heapcore {

using NodeId = std::uint32_t;
inline constexpr NodeId kNoNode = ~NodeId{0};

// Some of a graph's nodes, a bit each.
class NodeSet {
 public:
  NodeSet() = default;
  explicit NodeSet(std::size_t nodes) : words_((nodes + 63) / 64, 0) {}

  bool contains(NodeId node) const { return (words_[node / 64] & bit(node)) != 0; }
  // Whether it was not there before.
  bool insert(NodeId node) {
    const bool is_new = !contains(node);
    words_[node / 64] |= bit(node);
    return is_new;
  }
  void erase(NodeId node) { words_[node / 64] &= ~bit(node); }

  // The same while other threads do so too.
  bool shared_insert(NodeId node) {
    const std::atomic_ref<std::uint64_t> word(words_[node / 64]);
    if ((word.load(std::memory_order_relaxed) & bit(node)) != 0) return false;
    return (word.fetch_or(bit(node), std::memory_order_relaxed) & bit(node)) == 0;
  }

  std::size_t count() const {
    std::size_t sum = 0;
    for (const std::uint64_t word : words_) sum += static_cast<std::size_t>(std::popcount(word));
    return sum;
  }

  // Of the nodes from 64 * i on; lowest first.
  std::uint64_t word(std::size_t i) const { return words_[i]; }
  std::size_t words() const { return words_.size(); }
  // REQUIRES: no other thread writes this word.
  void set_word(std::size_t i, std::uint64_t bits) { words_[i] = bits; }

 private:
  static std::uint64_t bit(NodeId node) { return std::uint64_t{1} << node % 64; }

  Column<std::uint64_t> words_;
};

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
  std::size_t blocks() const { return bases_.size(); }

  std::span<const NodeId> row(NodeId node) const {
    const std::uint32_t* offset = &offsets_[place(node)];
    return {targets_.data() + bases_[node >> kBlockBits] + offset[0], offset[1] - offset[0]};
  }

  // One block's rows as they are made: block b holds the nodes from b * kBlockNodes on, `degrees` one entry each.
  struct Block {
    Column<std::uint32_t> degrees;
    Column<NodeId> targets;
  };

  // Takes the blocks over. REQUIRES: blocks of kBlockNodes nodes each but for the last, every target < nodes.
  static Rows from_blocks(std::size_t nodes, std::vector<Block> blocks);

  // Of a forest: each node's row is of those whose parent it is, ascending. What is not below parents.size() is none.
  static Rows from_parents(std::span<const NodeId> parents);

  // The same edges turned round. Rows are sorted.
  Rows reversed() const;

 private:
  static std::size_t place(std::size_t node) { return node + (node >> kBlockBits); }

  // `for_each_edge(b, visit)` calls visit(from, to) for each edge that block b brings.
  template <typename ForEachEdge>
  static Rows from_edges(std::size_t nodes, ForEachEdge&& for_each_edge);
  static Rows unset(std::size_t nodes);
  void place_rows();

  std::size_t nodes_ = 0;
  std::vector<std::uint64_t> bases_;  // of each block
  // Within its block, of each node, and behind each block one more: where its last row ends.
  Column<std::uint32_t> offsets_;
  Column<NodeId> targets_;
};

// Those that edges lead to from `from`, itself included.
NodeSet reachable(const Rows& graph, std::span<const NodeId> from);

// Those that several edges lead to.
NodeSet shared_nodes(const Rows& graph);

}  // namespace heapcore
