// Rows, dominators and components against naive references on random graphs.
#include "analysis/graph.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "analysis/components.h"
#include "analysis/dominators.h"

namespace heapcore {
namespace {

using Edges = std::vector<std::vector<NodeId>>;

Rows make_rows(const Edges& edges) {
  std::vector<Rows::Block> blocks;
  for (std::size_t node = 0; node < edges.size(); ++node) {
    if ((node & (Rows::kBlockNodes - 1)) == 0) blocks.emplace_back();
    blocks.back().degrees.push_back(static_cast<std::uint32_t>(edges[node].size()));
    blocks.back().targets.insert(blocks.back().targets.end(), edges[node].begin(), edges[node].end());
  }
  return Rows::from_blocks(edges.size(), std::move(blocks));
}

Edges random_edges(std::mt19937& random, std::size_t nodes, std::size_t edges) {
  Edges result(nodes);
  std::uniform_int_distribution<NodeId> any(0, static_cast<NodeId>(nodes - 1));
  for (std::size_t i = 0; i < edges; ++i) result[any(random)].push_back(any(random));
  return result;
}

std::vector<bool> reached(const Edges& edges, NodeId from, NodeId without = kNoNode) {
  std::vector<bool> seen(edges.size());
  std::vector<NodeId> stack;
  if (from != without) stack.push_back(from), seen[from] = true;
  while (!stack.empty()) {
    const NodeId node = stack.back();
    stack.pop_back();
    for (const NodeId target : edges[node]) {
      if (target == without || seen[target]) continue;
      seen[target] = true;
      stack.push_back(target);
    }
  }
  return seen;
}

// By the definition: d dominates v if v is out of reach without d; the nearest is the one that all others dominate.
std::vector<NodeId> naive_idoms(const Edges& edges, NodeId root) {
  const std::size_t nodes = edges.size();
  const std::vector<bool> live = reached(edges, root);
  std::vector<std::vector<bool>> without;
  for (NodeId d = 0; d < nodes; ++d) without.push_back(reached(edges, root, d));
  const auto dominates = [&](NodeId d, NodeId v) { return d != v && live[d] && live[v] && !without[d][v]; };
  std::vector<NodeId> idom(nodes, kNoNode);
  for (NodeId v = 0; v < nodes; ++v) {
    for (NodeId d = 0; d < nodes; ++d) {
      if (dominates(d, v) && (idom[v] == kNoNode || dominates(idom[v], d))) idom[v] = d;
    }
  }
  return idom;
}

TEST(Rows, AreWhatTheyWereMadeFrom) {
  std::mt19937 random(1);
  for (const std::size_t nodes :
       {std::size_t{1}, std::size_t{1000}, Rows::kBlockNodes, Rows::kBlockNodes + 1, 3 * Rows::kBlockNodes + 17}) {
    const Edges edges = random_edges(random, nodes, 2 * nodes);
    const Rows rows = make_rows(edges);
    const Rows back = rows.reversed();
    Edges turned(nodes);
    for (NodeId node = 0; node < nodes; ++node) {
      const auto row = rows.row(node);
      ASSERT_TRUE(std::equal(row.begin(), row.end(), edges[node].begin(), edges[node].end())) << node;
      for (const NodeId target : edges[node]) turned[target].push_back(node);
    }
    ASSERT_EQ(back.edges(), rows.edges());
    for (NodeId node = 0; node < nodes; ++node) {
      const auto row = back.row(node);
      ASSERT_TRUE(std::equal(row.begin(), row.end(), turned[node].begin(), turned[node].end())) << node;
    }
  }
}

TEST(Dominators, EqualTheNaiveOnesOnRandomGraphs) {
  std::mt19937 random(2);
  for (int round = 0; round < 3000; ++round) {
    const std::size_t nodes = 1 + random() % 24;
    const Edges edges = random_edges(random, nodes, random() % (3 * nodes));
    const Rows rows = make_rows(edges);
    // The naive graph has the root for a node of its own, the last.
    Edges rooted = edges;
    rooted.emplace_back();
    const auto root = static_cast<NodeId>(nodes);
    for (std::size_t i = random() % 4; i > 0; --i) rooted[root].push_back(static_cast<NodeId>(random() % nodes));
    const DominatorTree tree = find_dominators(rows, shared_nodes(rows), rooted[root]);
    std::vector<NodeId> expected = naive_idoms(rooted, root);
    expected.pop_back();
    ASSERT_EQ(std::vector<NodeId>(tree.idom.begin(), tree.idom.end()), expected) << "round " << round;
    for (std::size_t i = 0; i < tree.order.size(); ++i) {
      const NodeId above = tree.idom[tree.order[i]];
      ASSERT_TRUE(above == root ? tree.above[i] == kNoNode : tree.above[i] < i && tree.order[tree.above[i]] == above);
    }
    const Rows children = Rows::from_parents(tree.idom);
    for (NodeId node = 0; node < nodes; ++node) {
      std::vector<NodeId> below;
      for (NodeId child = 0; child < nodes; ++child) {
        if (expected[child] == node) below.push_back(child);
      }
      const auto row = children.row(node);
      ASSERT_TRUE(std::equal(row.begin(), row.end(), below.begin(), below.end())) << "round " << round;
    }

    Column<std::uint64_t> bytes(nodes);
    for (std::uint64_t& each : bytes) each = random() % 1000;
    const Column<std::uint64_t> of_order = retained_bytes(rows, tree, [&](NodeId node) { return bytes[node]; });
    std::vector<std::uint64_t> retained(nodes);
    for (NodeId node = 0; node < nodes; ++node)
      retained[node] = tree.leaves.contains(node) && tree.reached(node) ? bytes[node] : 0;
    for (std::size_t i = 0; i < of_order.size(); ++i) retained[tree.order[i]] = of_order[i];
    const std::vector<bool> live = reached(rooted, root);
    for (NodeId node = 0; node < nodes; ++node) {
      const std::vector<bool> left = reached(rooted, root, node);
      std::uint64_t gone = 0;
      for (NodeId other = 0; other < nodes; ++other) gone += live[other] && !left[other] ? bytes[other] : 0;
      ASSERT_EQ(retained[node], live[node] ? gone : 0) << "round " << round << ", node " << node;
    }
  }
}

TEST(Dominators, OfALongChainNeedNoStack) {
  constexpr std::size_t kNodes = 1'000'000;
  Edges edges(kNodes);
  for (NodeId node = 0; node + 1 < kNodes; ++node) edges[node] = {node + 1, 0};
  const Rows rows = make_rows(edges);
  const std::vector<NodeId> entries{0};
  const DominatorTree tree = find_dominators(rows, shared_nodes(rows), entries);
  EXPECT_EQ(tree.idom[kNodes - 1], kNodes - 2);
  EXPECT_EQ(find_components(rows).count, 2u);  // the last node leads nowhere
}

TEST(Components, EqualTheNaiveOnesOnRandomGraphs) {
  std::mt19937 random(3);
  for (int round = 0; round < 3000; ++round) {
    const std::size_t nodes = 1 + random() % 20;
    const Edges edges = random_edges(random, nodes, random() % (3 * nodes));
    const Rows rows = make_rows(edges);
    const Components components = find_components(rows);
    std::vector<std::vector<bool>> from;
    for (NodeId node = 0; node < nodes; ++node) from.push_back(reached(edges, node));
    for (NodeId a = 0; a < nodes; ++a) {
      for (NodeId b = 0; b < nodes; ++b) {
        ASSERT_EQ(components.of[a] == components.of[b], from[a][b] && from[b][a]) << "round " << round;
        ASSERT_TRUE(!from[a][b] || components.of[a] >= components.of[b]) << "round " << round;
      }
    }
    // All is reached from the sources, and no source from another.
    std::vector<bool> covered(nodes);
    const std::vector<NodeId> sources = source_nodes(rows, NodeSet(nodes));
    for (const NodeId source : sources) {
      for (NodeId node = 0; node < nodes; ++node) {
        if (from[source][node]) covered[node] = true;
      }
      for (const NodeId other : sources) ASSERT_TRUE(other == source || !from[source][other]) << "round " << round;
    }
    ASSERT_EQ(std::count(covered.begin(), covered.end(), false), 0) << "round " << round;

    // Without what some nodes lead to: what is left is the graph of the others.
    std::vector<NodeId> starts;
    for (std::size_t i = random() % 3; i > 0; --i) starts.push_back(static_cast<NodeId>(random() % nodes));
    const NodeSet left_out = reachable(rows, starts);
    Edges rest(nodes);
    for (NodeId node = 0; node < nodes; ++node) {
      const bool is_out = std::any_of(starts.begin(), starts.end(), [&](NodeId start) { return from[start][node]; });
      ASSERT_EQ(left_out.contains(node), is_out) << "round " << round;
      if (!is_out)
        std::copy_if(edges[node].begin(), edges[node].end(), std::back_inserter(rest[node]),
                     [&](NodeId to) { return !left_out.contains(to); });
    }
    std::vector<NodeId> expected;
    for (const NodeId source : source_nodes(make_rows(rest), NodeSet(nodes))) {
      if (!left_out.contains(source)) expected.push_back(source);
    }
    ASSERT_EQ(source_nodes(rows, left_out), expected) << "round " << round;
  }
}

}  // namespace
}  // namespace heapcore
