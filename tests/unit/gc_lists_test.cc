// The collector's rings: following them, and telling whether they are whole without following them.
#include "pyobj/gc_lists.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "py_builder.h"

namespace heapcore::testing {
namespace {

constexpr Addr kNodes = 0x7f7000000000;

struct Walk {
  std::vector<Addr> nodes;
  Findings findings;
};

Walk walk(FakePython& python, Addr ring, std::uint64_t max_nodes = 1000) {
  const Snapshot snapshot = python.snapshot();
  Reader reader(snapshot.space);
  Walk result;
  walk_gc_list(reader, python.py_traits(), ring, max_nodes, result.findings,
               [&](Addr node) { result.nodes.push_back(node); });
  return result;
}

struct Ring {
  FakePython python;
  Addr head = 0;

  explicit Ring(unsigned n) : head(python.generation(1)) {
    python.add_memory(kNodes, 1 << 16, "");
    for (unsigned i = 0; i < n; ++i) python.track(node(i), head);
  }
  static Addr node(unsigned i) { return kNodes + 32 * ((i * 7) % 101); }
  static std::vector<Addr> nodes(unsigned n) {
    std::vector<Addr> result;
    for (unsigned i = 0; i < n; ++i) result.push_back(node(i));
    return result;
  }
};

TEST(GcLists, HeadsOfEachInterpreter) {
  FakePython python;
  PyRuntime runtime = python.runtime();
  EXPECT_EQ(gc_list_heads(runtime).size(), 4U);
  const Addr second = python.add_interpreter(1);
  runtime.interpreters.push_back({second, 1, true, false});
  const std::vector<GcListHead> heads = gc_list_heads(runtime);
  ASSERT_EQ(heads.size(), 8U);
  for (unsigned i = 0; i < 3; ++i) {
    EXPECT_EQ(heads[i].address, python.generation(i));
    EXPECT_FALSE(heads[i].permanent);
  }
  EXPECT_EQ(heads[3].address, python.permanent());
  EXPECT_TRUE(heads[3].permanent);
  EXPECT_TRUE(heads[7].permanent);
}

TEST(GcLists, WholeRingsAreFollowedInOrder) {
  for (const unsigned n : {0U, 1U, 2U, 50U}) {
    Ring ring(n);
    const Walk result = walk(ring.python, ring.head);
    EXPECT_EQ(result.nodes, Ring::nodes(n));
    EXPECT_TRUE(result.findings.kept().empty());
  }
}

TEST(GcLists, FlagsAreNoPartOfTheLinks) {
  Ring ring(5);
  for (unsigned i = 0; i < 5; ++i) {
    ring.python.put(Ring::node(i), ring.python.get(Ring::node(i)) | 1);
    ring.python.put(Ring::node(i) + 8, ring.python.get(Ring::node(i) + 8) | 3);
  }
  const Walk result = walk(ring.python, ring.head);
  EXPECT_EQ(result.nodes, Ring::nodes(5));
  EXPECT_TRUE(result.findings.kept().empty());
}

TEST(GcLists, BreaksAreFindingsAndEndTheWalk) {
  const auto broken = [](unsigned node, std::uint64_t next, std::uint64_t prev) {
    Ring ring(10);
    if (next != 1) ring.python.put(Ring::node(node), next);
    if (prev != 1) ring.python.put(Ring::node(node) + 8, prev);
    const Walk result = walk(ring.python, ring.head);
    EXPECT_EQ(result.findings.count("gc-list-broken"), 1U);
    return result.nodes.size();
  };
  EXPECT_EQ(broken(4, 0, 1), 5U);     // a link to nowhere
  EXPECT_EQ(broken(4, 0x10, 1), 5U);  // to what is not mapped
  EXPECT_EQ(broken(4, ~std::uint64_t{0}, 1), 5U);
  EXPECT_EQ(broken(4, Ring::node(2), 1), 5U);  // back into the list
  EXPECT_EQ(broken(4, Ring::node(4), 1), 5U);  // to itself
  EXPECT_EQ(broken(4, Ring::node(7), 1), 5U);  // past some
  EXPECT_EQ(broken(4, Ring::node(5) + 4, 1), 5U);
  EXPECT_EQ(broken(4, 1, Ring::node(1)), 4U);  // does not point back
  EXPECT_EQ(broken(0, 1, 0), 0U);
}

TEST(GcLists, ALostMemberEndsTheWalk) {
  Ring ring(10);
  ring.python.lose({Ring::node(6), Ring::node(6) + 16});
  const Walk result = walk(ring.python, ring.head);
  EXPECT_EQ(result.nodes.size(), 6U);
  EXPECT_EQ(result.findings.count("gc-list-broken"), 1U);
  EXPECT_EQ(result.findings.kept()[0].address, Ring::node(5));  // whose link leads there
}

TEST(GcLists, TheBoundEndsTheWalk) {
  Ring ring(10);
  const Walk result = walk(ring.python, ring.head, 7);
  EXPECT_EQ(result.nodes.size(), 7U);
  EXPECT_EQ(result.findings.count("gc-list-broken"), 1U);
  EXPECT_TRUE(walk(ring.python, ring.head, 10).findings.kept().empty());
}

TEST(GcLists, ARingThatIsNotThereIsAFinding) {
  FakePython python;
  EXPECT_EQ(walk(python, 0x10).findings.count("gc-list-broken"), 1U);
  EXPECT_EQ(walk(python, ~Addr{0} - 3).findings.count("gc-list-broken"), 1U);
}

// The sums against the naive comparison of the two multisets.
TEST(GcRingCheck, AgreesWithComparingTheSets) {
  std::mt19937_64 random(99);
  int whole_rounds = 0;
  for (int round = 0; round < 20000; ++round) {
    const std::size_t n = 1 + random() % 40;
    std::vector<Addr> nodes;
    for (std::size_t i = 0; i < n; ++i) nodes.push_back(kNodes + 16 * i * (1 + random() % 2));
    std::sort(nodes.begin(), nodes.end());
    nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
    std::vector<Addr> order = nodes;
    std::shuffle(order.begin(), order.end(), random);
    std::vector<std::pair<Addr, Addr>> links;
    for (std::size_t i = 0; i < order.size(); ++i) links.emplace_back(order[i], order[(i + 1) % order.size()]);
    switch (random() % 5) {
      case 0:
        links.erase(links.begin() + static_cast<std::ptrdiff_t>(random() % links.size()));
        break;
      case 1:
        links[random() % links.size()].second += 16;
        break;
      case 2:
        links[random() % links.size()].second = links[random() % links.size()].second;
        break;
      case 3:
        links.emplace_back(kNodes - 64, links[random() % links.size()].second);
        break;
      default:
        break;
    }
    std::vector<Addr> from;
    std::vector<Addr> to;
    // As threads do: each a part, in any order.
    GcRingCheck parts[3];
    std::shuffle(links.begin(), links.end(), random);
    for (const auto& [node, next] : links) {
      parts[random() % 3].add(node, next);
      from.push_back(node);
      to.push_back(next);
    }
    GcRingCheck check;
    for (const GcRingCheck& part : parts) check.merge(part);
    std::sort(from.begin(), from.end());
    std::sort(to.begin(), to.end());
    ASSERT_EQ(check.whole(), from == to) << "round " << round;
    ASSERT_EQ(check.count(), links.size());
    whole_rounds += check.whole() ? 1 : 0;
  }
  EXPECT_GT(whole_rounds, 1000);
  EXPECT_LT(whole_rounds, 19000);
}

}  // namespace
}  // namespace heapcore::testing
