#include "analysis/dominators.h"

namespace heapcore {
namespace {

// All arrays but `number` are indexed by a node's place in preorder, whose neighbours in the search are neighbours in
// memory.
class SemiNca {
 public:
  SemiNca(const Rows& forward, const Rows& reverse, NodeId root)
      : forward_(forward), reverse_(reverse), number_(forward.nodes(), kNoNode) {
    search(root);
  }

  DominatorTree run() {
    const std::size_t count = order_.size();
    semi_.resize(count);
    label_.resize(count);
    for (std::size_t i = 0; i < count; ++i) semi_[i] = label_[i] = static_cast<NodeId>(i);
    ancestor_ = parent_;
    for (std::size_t i = count; i-- > 1;) {
      NodeId semi = parent_[i];
      for (const NodeId predecessor : reverse_.row(order_[i])) {
        const NodeId p = number_[predecessor];
        if (p == kNoNode) continue;
        const NodeId candidate = semi_[evaluate(p, static_cast<NodeId>(i))];
        if (candidate < semi) semi = candidate;
      }
      semi_[i] = semi;
      label_[i] = static_cast<NodeId>(i);
    }
    return finish();
  }

 private:
  void search(NodeId root) {
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
    enter(root, kNoNode);
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
      tree.idom[order_[i]] = order_[d];
    }
    tree.order = std::move(order_);
    return tree;
  }

  const Rows& forward_;
  const Rows& reverse_;
  std::vector<NodeId> number_;  // by node: its place in preorder
  std::vector<NodeId> order_;   // by place: its node
  std::vector<NodeId> parent_, ancestor_, semi_, label_;
  std::vector<NodeId> path_;
};

}  // namespace

DominatorTree find_dominators(const Rows& forward, const Rows& reverse, NodeId root) {
  if (root >= forward.nodes()) return {std::vector<NodeId>(forward.nodes(), kNoNode), {}};
  return SemiNca(forward, reverse, root).run();
}

std::vector<std::uint64_t> retained_bytes(const DominatorTree& tree, std::span<const std::uint32_t> bytes) {
  std::vector<std::uint64_t> retained(tree.idom.size(), 0);
  for (const NodeId node : tree.order) retained[node] = bytes[node];
  for (std::size_t i = tree.order.size(); i-- > 1;) {
    const NodeId node = tree.order[i];
    retained[tree.idom[node]] += retained[node];
  }
  return retained;
}

}  // namespace heapcore
