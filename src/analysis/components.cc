#include "analysis/components.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <bit>

namespace heapcore {
namespace {

// Labels each node: 0 not yet met; small numbers while its component is not known, in which nodes were met, or the
// lowest known to be reached; then a number of its component's own from the highest down.
class Labeller {
 public:
  explicit Labeller(const Rows& graph, const NodeSet* left_out = nullptr)
      : graph_(graph), left_out_(left_out), labels_(graph.nodes(), 0) {}

  void run() {
    for_each_node([this](NodeId node) {
      if (labels_[node] == 0) search(node);
    });
  }

  std::uint32_t count() const { return count_; }
  std::uint32_t component(NodeId node) const { return kHighest - labels_[node]; }
  Column<std::uint32_t> take_labels() { return std::move(labels_); }

  static constexpr std::uint32_t kHighest = ~std::uint32_t{0};

  bool is_out(NodeId node) const { return left_out_ != nullptr && left_out_->contains(node); }

  // Of those not left out, in order.
  template <typename Visit>
  void for_each_node(Visit&& visit) const {
    for (std::size_t i = 0; i < (graph_.nodes() + 63) / 64; ++i) {
      std::uint64_t there = left_out_ == nullptr ? ~std::uint64_t{0} : ~left_out_->word(i);
      for (; there != 0; there &= there - 1) {
        const std::size_t node = i * 64 + static_cast<std::size_t>(std::countr_zero(there));
        if (node >= graph_.nodes()) return;
        visit(static_cast<NodeId>(node));
      }
    }
  }

 private:
  struct Frame {
    NodeId node;
    std::uint32_t index;
    const NodeId* next;
    const NodeId* end;
  };

  // What leads nowhere is a component of its own.
  bool enter(NodeId node) {
    const auto row = graph_.row(node);
    if (row.empty()) {
      labels_[node] = kHighest - count_++;
      return false;
    }
    labels_[node] = ++active_;
    stack_.push_back({node, active_, row.data(), row.data() + row.size()});
    return true;
  }

  void search(NodeId start) {
    if (!enter(start)) return;
    while (!stack_.empty()) {
      if (descend(stack_.back())) continue;
      const Frame done = stack_.back();
      stack_.pop_back();
      if (labels_[done.node] == done.index) {
        close(done);
      } else {
        open_.push_back(done.node);
      }
      if (!stack_.empty()) lower(stack_.back().node, labels_[done.node]);
    }
  }

  // Goes along the node's edges up to one that leads to what is new; whether there is such a one.
  bool descend(Frame& frame) {
    while (frame.next != frame.end) {
      const NodeId to = *frame.next++;
      if (is_out(to)) continue;
      if (labels_[to] != 0) {
        lower(frame.node, labels_[to]);
      } else if (enter(to)) {
        return true;  // `frame` dangles
      }
    }
    return false;
  }

  void lower(NodeId node, std::uint32_t label) {
    if (label < labels_[node]) labels_[node] = label;
  }

  void close(const Frame& first) {
    const std::uint32_t label = kHighest - count_++;
    for (; !open_.empty() && labels_[open_.back()] >= first.index; open_.pop_back()) {
      labels_[open_.back()] = label;
      --active_;
    }
    labels_[first.node] = label;
    --active_;
  }

  const Rows& graph_;
  const NodeSet* left_out_;
  Column<std::uint32_t> labels_;
  std::uint32_t active_ = 0;
  std::uint32_t count_ = 0;
  std::vector<Frame> stack_;
  std::vector<NodeId> open_;  // left, their component not yet known
};

}  // namespace

Components find_components(const Rows& graph) {
  Labeller labeller(graph);
  labeller.run();
  Components result{labeller.take_labels(), labeller.count()};
  tbb::parallel_for(std::size_t{0}, graph.blocks(), [&](std::size_t b) {
    for (std::size_t node = b << Rows::kBlockBits; node < std::min(graph.nodes(), (b + 1) << Rows::kBlockBits); ++node)
      result.of[node] = Labeller::kHighest - result.of[node];
  });
  return result;
}

std::vector<NodeId> source_nodes(const Rows& graph, const NodeSet& left_out) {
  Labeller labeller(graph, &left_out);
  labeller.run();
  NodeSet led_to(labeller.count());
  labeller.for_each_node([&](NodeId from) {
    for (const NodeId to : graph.row(from)) {
      if (!labeller.is_out(to) && labeller.component(to) != labeller.component(from))
        led_to.insert(labeller.component(to));
    }
  });
  std::vector<NodeId> sources;
  labeller.for_each_node([&](NodeId node) {
    if (led_to.insert(labeller.component(node))) sources.push_back(node);
  });
  return sources;
}

}  // namespace heapcore
