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
  explicit Labeller(const Rows& graph) : graph_(graph), labels_(graph.nodes(), 0) {}

  void run() {
    for (std::size_t node = 0; node < graph_.nodes(); ++node) {
      if (labels_[node] == 0) search(static_cast<NodeId>(node));
    }
  }

  std::uint32_t count() const { return count_; }
  Column<std::uint32_t> take_labels() { return std::move(labels_); }

  static constexpr std::uint32_t kHighest = ~std::uint32_t{0};

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

// Of those left, which are few as a rule, a graph of their own is made.
std::vector<NodeId> source_nodes(const Rows& graph, const NodeSet& left_out) {
  std::vector<NodeId> nodes;             // by their number in the smaller graph
  std::vector<std::uint32_t> before(1);  // by word of `left_out`: how many are left before it
  for (std::size_t i = 0; i < left_out.words(); ++i) {
    for (std::uint64_t left = ~left_out.word(i); left != 0; left &= left - 1) {
      const std::size_t node = i * 64 + static_cast<std::size_t>(std::countr_zero(left));
      if (node < graph.nodes()) nodes.push_back(static_cast<NodeId>(node));
    }
    before.push_back(static_cast<std::uint32_t>(nodes.size()));
  }
  const auto number = [&](NodeId node) {
    const std::uint64_t below = (std::uint64_t{1} << node % 64) - 1;
    return before[node / 64] + static_cast<std::uint32_t>(std::popcount(~left_out.word(node / 64) & below));
  };
  std::vector<Rows::Block> blocks((nodes.size() + Rows::kBlockNodes - 1) >> Rows::kBlockBits);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    Rows::Block& block = blocks[i >> Rows::kBlockBits];
    const std::size_t edges = block.targets.size();
    for (const NodeId to : graph.row(nodes[i])) {
      if (!left_out.contains(to)) block.targets.push_back(number(to));
    }
    block.degrees.push_back(static_cast<std::uint32_t>(block.targets.size() - edges));
  }
  const Rows rest = Rows::from_blocks(nodes.size(), std::move(blocks));
  const Components components = find_components(rest);
  NodeSet led_to(components.count);
  for (NodeId from = 0; from < rest.nodes(); ++from) {
    for (const NodeId to : rest.row(from)) {
      if (components.of[to] != components.of[from]) led_to.insert(components.of[to]);
    }
  }
  std::vector<NodeId> sources;
  for (NodeId node = 0; node < rest.nodes(); ++node) {
    if (led_to.insert(components.of[node])) sources.push_back(nodes[node]);
  }
  return sources;
}

}  // namespace heapcore
