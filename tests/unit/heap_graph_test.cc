// Who holds whom in a synthesised process: edges, roots, what each retains, what is garbage, what nothing explains.
#include "analysis/heap_graph.h"

#include <gtest/gtest.h>

#include "analysis/audit.h"
#include "analysis/cycles.h"
#include "analysis/garbage.h"
#include "analysis/holders.h"
#include "analysis/merged_paths.h"
#include "py_builder.h"

namespace heapcore::testing {
namespace {

constexpr std::uint64_t kListBytes = 64;
constexpr std::uint64_t kItemsBytes = 32;

class HeapGraphs : public ::testing::Test {
 protected:
  HeapGraphs()
      : arena(python.arena(kFirstArena)),
        lists(python.pool(arena, kListBytes)),
        items(python.pool(arena, kItemsBytes)) {}

  Addr list(std::uint64_t refcount) {
    const Addr block = python.block(lists);
    python.head(block + 16, python.list_type, refcount);
    python.track(block, python.generation(0));
    return block + 16;
  }
  void fill(Addr list, const std::vector<Addr>& held) {
    const Addr array = python.block(items);
    for (std::size_t i = 0; i < held.size(); ++i) python.put(array + 8 * i, held[i]);
    python.put(list + python.layout().PyVarObject.ob_size.offset, held.size());
    python.put(list + python.layout().PyListObject.ob_item.offset, array);
    python.put(list + python.layout().PyListObject.allocated.offset, held.size());
  }
  // A variable of the interpreter's module that holds an object.
  void variable(Addr object) { python.put(python.data(8), object); }

  void take() {
    process = python.process();
    holders = find_holders(process, Progress::none(), process.findings, timings);
  }
  NodeId node(Addr address) const { return holders.graph.blocks.find(address); }
  std::uint64_t retained(Addr address) const { return holders.retained.bytes[node(address)]; }
  std::vector<Addr> garbage() {
    std::vector<Addr> found;
    for (const NodeId each : uncollected_garbage(process, holders.graph, process.findings).objects)
      found.push_back(holders.graph.blocks.address(each));
    return found;
  }
  PathsAnswer paths(Addr address) { return paths_of_node(process, holders.graph, node(address), {}, process.findings); }

  FakePython python;
  std::uint32_t arena;
  Addr lists;
  Addr items;
  Process process;
  Timings timings;
  Holders holders;
};

TEST_F(HeapGraphs, WhatTwoHoldTheirHolderRetains) {
  const Addr top = list(1);
  const Addr left = list(1);
  const Addr right = list(1);
  const Addr shared = list(2);
  fill(top, {left, right});
  fill(left, {shared});
  fill(right, {shared});
  variable(top);
  take();
  EXPECT_EQ(retained(shared), kListBytes);
  EXPECT_EQ(retained(left), kListBytes + kItemsBytes);
  EXPECT_EQ(retained(top), 4 * kListBytes + 3 * kItemsBytes);
  EXPECT_EQ(holders.retained.tree.idom[node(shared)], node(top));
  EXPECT_TRUE(garbage().empty());
  EXPECT_EQ(audit_counts(process, holders.graph, 0).objects_count, 0U);
  const PathsAnswer held = paths(shared);
  ASSERT_EQ(held.paths_count, 2U);
  EXPECT_EQ(held.paths[0].path.root, RootKind::kStatic);
  EXPECT_TRUE(held.paths[0].text.ends_with("[0][0]")) << held.paths[0].text;
  EXPECT_TRUE(held.paths[1].text.ends_with("[1][0]")) << held.paths[1].text;
}

TEST_F(HeapGraphs, ARingThatNothingHoldsIsGarbage) {
  const Addr first = list(1);
  const Addr second = list(1);
  const Addr below = list(1);
  fill(first, {second});
  fill(second, {first, below});
  const Addr kept = list(2);  // in a ring as well, but a variable holds it
  fill(kept, {kept});
  variable(kept);
  take();
  EXPECT_EQ(garbage(), (std::vector<Addr>{first, second, below}));
  const CyclesAnswer cycles = find_cycles(process, holders, {}, process.findings);
  EXPECT_EQ(cycles.garbage.count, 3U);
  EXPECT_EQ(cycles.garbage_retained_bytes, 3 * kListBytes + 2 * kItemsBytes);
  ASSERT_EQ(cycles.groups.size(), 2U);
  EXPECT_TRUE(cycles.groups[0].garbage);
  EXPECT_EQ(cycles.groups[0].objects, 2U);
  EXPECT_EQ(cycles.groups[0].retained_bytes, 3 * kListBytes + 2 * kItemsBytes);
  EXPECT_TRUE(cycles.groups[1].reachable);
  EXPECT_EQ(cycles.groups[1].text(), "builtins.list[0]");
}

TEST_F(HeapGraphs, CountsThatNothingExplains) {
  const Addr top = list(1);
  const Addr raised = list(3);
  const Addr lost = list(1);
  fill(top, {raised});
  variable(top);
  take();
  const AuditAnswer audit = audit_counts(process, holders.graph, 0);
  ASSERT_EQ(audit.objects_count, 2U);
  EXPECT_EQ(audit.objects[0].address, raised);
  EXPECT_EQ(audit.objects[0].excess, 2);
  EXPECT_FALSE(audit.objects[0].lost);
  EXPECT_EQ(audit.objects[1].address, lost);
  EXPECT_TRUE(audit.objects[1].lost);
  EXPECT_EQ(audit.excess, 3U);
  EXPECT_TRUE(garbage().empty());
}

// A word outside of Python's objects holds what has a reference left for it, and not more.
TEST_F(HeapGraphs, AWordExplainsOneReference) {
  const Addr top = list(1);
  const Addr inner = list(1);
  fill(top, {inner});
  variable(top);
  variable(inner);  // stale: its one reference is known
  const Addr raw = python.block(items);
  const Addr held_by_raw = list(1);
  python.put(raw, held_by_raw);
  take();
  EXPECT_EQ(retained(top), 2 * kListBytes + kItemsBytes);
  EXPECT_EQ(retained(raw), kListBytes + kItemsBytes);
  EXPECT_EQ(paths(held_by_raw).paths.at(0).path.steps.size(), 2U);
}

TEST_F(HeapGraphs, DamageChangesWhatItTouches) {
  const Addr top = list(1);
  const Addr inner = list(1);
  fill(top, {inner, 0x10, inner + 8, ~Addr{7}});
  variable(top);
  const Addr huge = list(1);
  fill(huge, {});
  python.put(huge + python.layout().PyVarObject.ob_size.offset, std::uint64_t{1} << 60);
  take();
  EXPECT_EQ(retained(top), 2 * kListBytes + kItemsBytes);
  EXPECT_TRUE(process.findings.incomplete());
}

TEST(JoinedEdges, ReadAsPythonWould) {
  EXPECT_EQ(join_edges({"sys.modules", "['__main__']", ".__dict__", "['Processor']", ".__dict__", "['instance_map']",
                        "['key']", ".__dict__", "['name']"}),
            "__main__.Processor.instance_map['key'].name");
  EXPECT_EQ(join_edges({"sys.modules", "['os.path']", ".__dict__", "[<str>]"}), "os.path.__dict__[<str>]");
  EXPECT_EQ(join_edges({"builtins.__dict__", "['print']"}), "builtins.print");
  EXPECT_EQ(join_edges({"f (a.py:1)", "local x in f (a.py:1)", "[3]"}), "local x in f (a.py:1)[3]");
  EXPECT_EQ(join_edges({"local g in f (a.py:1)", "local x in g (a.py:9)"}),
            "local g in f (a.py:1) -> local x in g (a.py:9)");
  EXPECT_EQ(join_edges({"static held in a.so", ".next", "...", "key 3"}), "static held in a.so.next... -> key 3");
}

}  // namespace
}  // namespace heapcore::testing
