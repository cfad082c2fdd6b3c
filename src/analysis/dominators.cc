#include "analysis/dominators.h"

#include <algorithm>

namespace heapcore {
namespace {

// Calls visit(node) for each node, in parallel by blocks.
template <typename Visit>
void for_each_node(const Rows& graph, Visit&& visit) {
  tbb::parallel_for(std::size_t{0}, graph.blocks(), [&](std::size_t b) {
    const std::size_t end = std::min(graph.nodes(), (b + 1) << Rows::kBlockBits);
    for (std::size_t node = b << Rows::kBlockBits; node < end; ++node) visit(static_cast<NodeId>(node));
  });
}

NodeSet find_leaves(const Rows& graph, const NodeSet& shared, std::span<const NodeId> entries) {
  NodeSet leaves(graph.nodes());
  tbb::parallel_for(std::size_t{0}, graph.blocks(), [&](std::size_t b) {
    constexpr std::size_t kWords = Rows::kBlockNodes / 64;
    for (std::size_t i = b * kWords; i < std::min(leaves.words(), (b + 1) * kWords); ++i) {
      std::uint64_t bits = 0;
      for (std::size_t bit = 0; bit < 64 && i * 64 + bit < graph.nodes(); ++bit)
        bits |= std::uint64_t{graph.row(static_cast<NodeId>(i * 64 + bit)).empty()} << bit;
      leaves.set_word(i, bits & ~shared.word(i));
    }
  });
  for (const NodeId entry : entries) leaves.erase(entry);
  return leaves;
}

// All arrays but `place_` are indexed by a node's place in preorder, whose neighbours in the search are neighbours in
// memory. The virtual root has place 0.
class SemiNca {
 public:
  SemiNca(const Rows& graph, const NodeSet& shared, std::span<const NodeId> entries)
      : graph_(graph),
        leaves_(find_leaves(graph, shared, entries)),
        is_entry_(graph.nodes()),
        place_(graph.nodes(), 0) {
    const std::size_t most = graph.nodes() - leaves_.count() + 1;
    for (Column<NodeId>* column : {&order_, &parent_, &semi_, &late_}) column->reserve(most);
    add(kNoNode, 0, 0);
    for (const NodeId entry : entries) is_entry_.insert(entry);
    for (const NodeId entry : entries) {
      if (place_[entry] == 0) search(entry);
    }
  }

  DominatorTree run() {
    const std::size_t count = order_.size();
    label_ = Column<NodeId>(count);
    for (std::size_t i = 0; i < count; ++i) label_[i] = static_cast<NodeId>(i);
    ancestor_ = parent_;
    for (std::size_t i = count; i-- > 1;) {
      NodeId semi = semi_[i];
      if (semi == 0) continue;
      for (NodeId edge = late_[i]; edge != kNoEdge; edge = late_edges_[edge].next)
        semi = std::min(semi, semi_[evaluate(late_edges_[edge].from, static_cast<NodeId>(i))]);
      semi_[i] = semi;
    }
    late_edges_ = {};
    ancestor_ = {};
    label_ = {};
    return finish();
  }

 private:
  static constexpr NodeId kNoEdge = kNoNode;

  // An edge whose target was met before its source.
  struct LateEdge {
    NodeId from;
    NodeId next;  // of the same target
  };
  struct Frame {
    NodeId place;
    const NodeId* next;
    const NodeId* end;
  };

  void add(NodeId node, NodeId parent, NodeId semi) {
    order_.push_back(node);
    parent_.push_back(parent);
    semi_.push_back(semi);
    late_.push_back(kNoEdge);
  }

  // Semidominators begin as what edges from before tell: the parent, or a higher ancestor. What late edges tell is for
  // run().
  void search(NodeId from) {
    const auto enter = [&](NodeId node, NodeId parent) {
      const auto row = graph_.row(node);
      place_[node] = static_cast<NodeId>(order_.size());
      stack_.push_back({place_[node], row.data(), row.data() + row.size()});
      add(node, parent, is_entry_.contains(node) ? 0 : parent);
    };
    enter(from, 0);
    while (!stack_.empty()) {
      Frame& top = stack_.back();
      NodeId unmet = kNoNode;
      while (top.next != top.end) {
        const NodeId to = *top.next++;
        if (leaves_.contains(to)) continue;
        if (place_[to] == 0) {
          unmet = to;
          break;
        }
        note_edge(top.place, place_[to]);
      }
      if (unmet == kNoNode) {
        stack_.pop_back();
      } else {
        enter(unmet, NodeId{top.place});  // `top` dangles from here on
      }
    }
  }

  void note_edge(NodeId from, NodeId to) {
    if (from < to) {
      semi_[to] = std::min(semi_[to], from);
    } else if (from > to && semi_[to] != 0) {
      if (late_edges_.size() >= kNoEdge) {  // more than numbers can tell: then at least nothing wrong
        semi_[to] = 0;
        return;
      }
      late_edges_.push_back({from, late_[to]});
      late_[to] = static_cast<NodeId>(late_edges_.size() - 1);
    }
  }

  // The node of least semidominator on the path from v up to, and without, the first node that is not yet linked.
  // Nodes after `current` are linked, of which v is one; the path is compressed.
  NodeId evaluate(NodeId v, NodeId current) {
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
    // The dominator is the nearest ancestor in the search tree that is not after the semidominator.
    Column<NodeId>& idom = parent_;
    for (std::size_t i = 1; i < order_.size(); ++i) {
      NodeId d = idom[i];
      while (d > semi_[i]) d = idom[d];
      idom[i] = d;
    }
    DominatorTree tree;
    tree.idom = Column<NodeId>(graph_.nodes());
    const NodeId root = tree.virtual_root();
    for_each_node(graph_, [&](NodeId node) {
      const NodeId d = place_[node] == 0 ? kNoNode : idom[place_[node]];
      tree.idom[node] = d == kNoNode ? kNoNode : d == 0 ? root : order_[d];
    });
    for_each_node(graph_, [&](NodeId node) {
      if (place_[node] == 0) return;
      for (const NodeId to : graph_.row(node)) {
        if (leaves_.contains(to)) tree.idom[to] = node;
      }
    });
    // Without the virtual root, whose place before the others' becomes kNoNode.
    for (std::size_t i = 1; i < order_.size(); ++i) {
      order_[i - 1] = order_[i];
      idom[i - 1] = idom[i] - 1;
    }
    order_.pop_back();
    idom.pop_back();
    tree.order = std::move(order_);
    tree.above = std::move(idom);
    tree.leaves = std::move(leaves_);
    return tree;
  }

  const Rows& graph_;
  NodeSet leaves_;
  NodeSet is_entry_;
  Column<NodeId> place_;  // by node; 0: not met
  Column<NodeId> order_;  // by place: its node
  Column<NodeId> parent_, ancestor_, semi_, label_;
  Column<NodeId> late_;  // by place: the last of the late edges that lead to it
  Column<LateEdge> late_edges_;
  std::vector<Frame> stack_;
  std::vector<NodeId> path_;
};

}  // namespace

DominatorTree find_dominators(const Rows& graph, const NodeSet& shared, std::span<const NodeId> entries) {
  return SemiNca(graph, shared, entries).run();
}

}  // namespace heapcore
