#include "analysis/dominators.h"

namespace heapcore {
namespace {

// All arrays but `number_` are indexed by a node's place in preorder, whose neighbours in the search are neighbours in
// memory. The virtual root has place 0.
class SemiNca {
 public:
  SemiNca(const Rows& forward, const Rows& reverse, std::span<const NodeId> entries)
      : forward_(forward), reverse_(reverse), number_(forward.nodes(), kNoNode), is_entry_(forward.nodes(), false) {
    order_.push_back(kNoNode);
    parent_.push_back(kNoNode);
    for (const NodeId entry : entries) is_entry_[entry] = true;
    for (const NodeId entry : entries) {
      if (number_[entry] == kNoNode) search(entry);
    }
  }

  DominatorTree run() {
    const std::size_t count = order_.size();
    semi_.resize(count);
    label_.resize(count);
    for (std::size_t i = 0; i < count; ++i) semi_[i] = label_[i] = static_cast<NodeId>(i);
    ancestor_ = parent_;
    for (std::size_t i = count; i-- > 1;) {
      NodeId semi = is_entry_[order_[i]] ? 0 : parent_[i];
      for (const NodeId predecessor : reverse_.row(order_[i])) {
        const NodeId p = number_[predecessor];
        if (p == kNoNode) continue;
        const NodeId candidate = semi_[evaluate(p, static_cast<NodeId>(i))];
        if (candidate < semi) semi = candidate;
      }
      semi_[i] = semi;
    }
    return finish();
  }

 private:
  void search(NodeId from) {
    struct Frame {
      NodeId node;
      std::uint32_t next;
    };
    std::vector<Frame> stack;
    const auto enter = [&](NodeId node, NodeId parent) {
      number_[node] = static_cast<NodeId>(order_.size());
      order_.push_back(node);
      parent_.push_back(parent);
      stack.push_back({node, 0});
    };
    enter(from, 0);
    while (!stack.empty()) {
      Frame& top = stack.back();
      const std::span<const NodeId> row = forward_.row(top.node);
      while (top.next < row.size() && number_[row[top.next]] != kNoNode) ++top.next;
      if (top.next == row.size()) {
        stack.pop_back();
      } else {
        const NodeId parent = number_[top.node];
        enter(row[top.next++], parent);  // `top` dangles from here on
      }
    }
  }

  // The node of least semidominator on the path from v up to, and without, the first node that is not yet linked.
  // Nodes after `current` are linked; the path is compressed.
  NodeId evaluate(NodeId v, NodeId current) {
    if (v <= current) return v;
    path_.clear();
    NodeId u = v;
    while (ancestor_[u] > current) {
      path_.push_back(u);
      u = ancestor_[u];
    }
    while (!path_.empty()) {
      const NodeId w = path_.back();
      path_.pop_back();
      const NodeId above = ancestor_[w];
      if (semi_[label_[above]] < semi_[label_[w]]) label_[w] = label_[above];
      ancestor_[w] = ancestor_[above];
    }
    return label_[v];
  }

  DominatorTree finish() {
    const std::size_t count = order_.size();
    // The dominator is the nearest ancestor in the search tree that is not after the semidominator.
    std::vector<NodeId>& idom = label_;
    idom = parent_;
    DominatorTree tree;
    tree.idom.assign(forward_.nodes(), kNoNode);
    for (std::size_t i = 1; i < count; ++i) {
      NodeId d = idom[i];
      while (d > semi_[i]) d = idom[d];
      idom[i] = d;
      tree.idom[order_[i]] = d == 0 ? tree.virtual_root() : order_[d];
    }
    order_.erase(order_.begin());
    tree.order = std::move(order_);
    return tree;
  }

  const Rows& forward_;
  const Rows& reverse_;
  std::vector<NodeId> number_;  // by node: its place in preorder
  std::vector<bool> is_entry_;  // by node
  std::vector<NodeId> order_;   // by place: its node
  std::vector<NodeId> parent_, ancestor_, semi_, label_;
  std::vector<NodeId> path_;
};

}  // namespace

DominatorTree find_dominators(const Rows& forward, const Rows& reverse, std::span<const NodeId> entries) {
  return SemiNca(forward, reverse, entries).run();
}

std::vector<std::uint64_t> retained_bytes(const DominatorTree& tree, std::vector<std::uint64_t> bytes) {
  for (std::size_t node = 0; node < bytes.size(); ++node) {
    if (!tree.reached(static_cast<NodeId>(node))) bytes[node] = 0;
  }
  for (std::size_t i = tree.order.size(); i-- > 0;) {
    const NodeId node = tree.order[i];
    if (tree.idom[node] != tree.virtual_root()) bytes[tree.idom[node]] += bytes[node];
  }
  return bytes;
}

}  // namespace heapcore
