// The census of a synthesised process: what was put into pools and chunks is counted, and the same by any number of
// threads.
#include "analysis/census.h"

#include <gtest/gtest.h>
#include <tbb/global_control.h>

#include <map>

#include "glibc_heap/census.h"
#include "glibc_heap/locate.h"
#include "py_builder.h"

namespace heapcore::testing {
namespace {

struct Taken {
  Process process;
  Census census;
  Findings findings;

  // By "module.name".
  TypeTotals of(const std::string& name) const {
    TypeTotals result;
    for (TypeId id = 0; id < census.by_type.size(); ++id) {
      const TypeInfo& info = census.types->info(id);
      if (info.module + "." + info.name == name) result += census.by_type[id];
    }
    return result;
  }
};

Taken take(FakePython& python, bool with_malloc = false) {
  Taken taken;
  taken.process = python.process();
  if (with_malloc) {
    Findings of_search;
    taken.process.malloc = find_heap(taken.process.snapshot, of_search);
    EXPECT_TRUE(taken.process.malloc.heap) << taken.process.malloc.why_not;
  }
  taken.census = take_census(taken.process, Progress::none(), taken.findings);
  taken.findings.sort();
  return taken;
}

// An arena with a pool of 64-byte blocks to put objects into.
struct World {
  FakePython python;
  Addr pool = 0;

  World() {
    python.arena(kFirstArena);
    pool = python.pool(0, 64);
  }
  Addr node(std::optional<Addr> ring) {
    const Addr block = python.block(pool);
    python.head(block + 32, python.node_type);
    if (ring) python.track(block + 16, *ring);
    return block + 32;
  }
  Addr number() {
    const Addr block = python.block(pool);
    python.head(block, python.int_type);
    python.put(block + 16, 1);
    return block;
  }
};

TEST(Census, CountsObjectsByTypeAndTracking) {
  World world;
  for (int i = 0; i < 5; ++i) world.node(world.python.generation(static_cast<unsigned>(i) % 3));
  world.node(std::nullopt);
  for (int i = 0; i < 4; ++i) world.number();
  const Addr buffer = world.python.block(world.pool);  // a block in use that holds none
  world.python.put(buffer, 0x20646e6120656874);
  const Addr freed = world.number();
  world.python.free_block(world.pool, freed);
  const Taken taken = take(world.python);
  // This process has no glibc malloc, and that is all there is to say.
  ASSERT_EQ(taken.findings.kept().size(), 1U);
  EXPECT_EQ(taken.findings.kept().front().code, "allocator-not-swept");
  EXPECT_TRUE(taken.census.rings_whole);
  EXPECT_EQ(taken.of("__main__.Node").all, (CountBytes{6, 6 * 56}));
  EXPECT_EQ(taken.of("__main__.Node").tracked, (CountBytes{5, 5 * 56}));
  EXPECT_EQ(taken.of("builtins.int").all, (CountBytes{4, 4 * 28}));
  EXPECT_EQ(taken.of("builtins.int").tracked.count, 0U);
  EXPECT_EQ(taken.census.total, (CountBytes{10, 6 * 56 + 4 * 28}));
  EXPECT_EQ(taken.census.tracked, (CountBytes{5, 5 * 56}));
  EXPECT_EQ(taken.census.pools.objects, (CountBytes{10, 640}));
  EXPECT_EQ(taken.census.pools.other, (CountBytes{1, 64}));
  EXPECT_EQ(taken.census.objects_elsewhere, 0U);
  // Sizes from 32 to 63 are one class, 16 to 31 the one below.
  EXPECT_EQ(taken.census.by_size[6].all.count, 6U);
  EXPECT_EQ(taken.census.by_size[5].all.count, 4U);
}

TEST(Census, FrozenObjectsAreNotInGetObjects) {
  World world;
  for (int i = 0; i < 3; ++i) world.node(world.python.generation(2));
  for (int i = 0; i < 2; ++i) world.node(world.python.permanent());
  const Taken taken = take(world.python);
  EXPECT_TRUE(taken.census.rings_whole);
  EXPECT_EQ(taken.census.total.count, 5U);
  EXPECT_EQ(taken.census.tracked, (CountBytes{3, 3 * 56}));
  EXPECT_EQ(taken.of("__main__.Node").tracked.count, 3U);
  EXPECT_EQ(taken.census.by_size[6].tracked, (CountBytes{3, 3 * 56}));
}

TEST(Census, ObjectsElsewhereAreFoundThroughTheLists) {
  World world;
  world.node(world.python.generation(0));
  // A collected object in static memory, as an extension module may keep one; and a frozen one.
  for (const Addr ring : {world.python.generation(0), world.python.permanent()}) {
    const Addr at = world.python.data(64);
    world.python.head(at + 16, world.python.slotted_type);
    world.python.track(at, ring);
  }
  const Taken taken = take(world.python);
  EXPECT_FALSE(taken.census.rings_whole);
  EXPECT_EQ(taken.census.objects_elsewhere, 2U);
  EXPECT_EQ(taken.findings.count("gc-objects-elsewhere"), 1U);
  EXPECT_EQ(taken.of("app.model.Slotted").all, (CountBytes{2, 2 * 48}));
  EXPECT_EQ(taken.of("app.model.Slotted").tracked, (CountBytes{1, 48}));
  EXPECT_EQ(taken.of("__main__.Node").all.count, 1U);
  EXPECT_EQ(taken.census.total.count, 3U);
  EXPECT_EQ(taken.census.tracked.count, 2U);
}

TEST(Census, ABrokenRingCostsNothingThatTheSweepMet) {
  World world;
  std::vector<Addr> nodes;
  for (int i = 0; i < 6; ++i) nodes.push_back(world.node(world.python.generation(0)));
  world.python.put(nodes[2] - 16, 0x10);  // its _gc_next
  const Taken taken = take(world.python);
  EXPECT_FALSE(taken.census.rings_whole);
  EXPECT_EQ(taken.findings.count("gc-list-broken"), 1U);
  EXPECT_EQ(taken.of("__main__.Node").all.count, 6U);
  EXPECT_EQ(taken.census.objects_elsewhere, 0U);
}

TEST(Census, WhatAListNamesThatIsNoObjectIsAFinding) {
  World world;
  const Addr at = world.python.data(64);
  world.python.head(at + 16, 0x10);
  world.python.track(at, world.python.generation(1));
  // A list of the collector holds collected objects only.
  const Addr number = world.python.data(64);
  world.python.head(number + 16, world.python.int_type);
  world.python.track(number, world.python.generation(1));
  const Taken taken = take(world.python);
  EXPECT_EQ(taken.findings.count("gc-object-damaged"), 2U);
  EXPECT_EQ(taken.census.total.count, 0U);
}

TEST(Census, FrozenObjectsInADamagedPoolDoNotMakeCountsWrap) {
  World world;
  world.node(world.python.generation(0));
  const Addr damaged = world.python.pool(0, 64);
  world.pool = damaged;
  for (int i = 0; i < 3; ++i) world.node(world.python.permanent());
  world.python.put32(damaged + world.python.layout().pool_header.arenaindex.offset, 9);
  const Taken taken = take(world.python);
  EXPECT_EQ(taken.findings.count("obmalloc-pool-damaged"), 1U);
  EXPECT_EQ(taken.census.tracked, (CountBytes{1, 56}));
  EXPECT_EQ(taken.of("__main__.Node").all.count, 4U);  // the lists tell of what lies in the pool
  EXPECT_EQ(taken.of("__main__.Node").tracked.count, 1U);
  EXPECT_LE(taken.census.by_size[6].tracked.count, 4U);
}

TEST(Census, AFrozenObjectInABlockSaidToBeFreeDoesNotMakeCountsWrap) {
  World world;
  const Addr frozen = world.node(world.python.permanent());
  world.number();
  // The free list claims it although it is alive; its _gc_next stays, its values pointer is overwritten.
  world.python.free_block(world.pool, frozen - 32);
  const Taken taken = take(world.python);
  EXPECT_LE(taken.census.tracked.count, 1U);
  EXPECT_LE(taken.census.tracked.bytes, 1000U);
  for (const TypeTotals& totals : taken.census.by_size) EXPECT_LE(totals.tracked.count, 1U);
  for (const TypeTotals& totals : taken.census.by_type) EXPECT_LE(totals.tracked.count, totals.all.count);
}

TEST(Census, MissingNamesAreReported) {
  World world;
  const Addr text = world.python.c_text("lost.Name");
  const Addr type = world.python.static_type({"", 64});
  world.python.put(type + world.python.layout().PyTypeObject.tp_name.offset, text);
  world.python.lose({text, text + 10});
  world.python.head(world.python.block(world.pool), type);
  const Taken taken = take(world.python);
  EXPECT_EQ(taken.findings.count("type-names-missing"), 1U);
  EXPECT_EQ(taken.census.total.count, 1U);
}

TEST(Census, CountsObjectsInMallocsChunks) {
  World world;
  FakePython& python = world.python;
  python.main_heap(1 << 16);
  const Addr list_chunk = python.used(64);
  python.head(list_chunk + 16 + 16, python.list_type);
  python.track(list_chunk + 16, python.generation(0));
  const Addr text_chunk = python.used(1024);
  python.ascii_at(text_chunk + 16, std::string(900, 'x'));
  python.used(4096);
  const Addr dead = python.freed(96, 1);
  python.used(32);
  // Freed, but the list that was there still looks alive.
  python.head(dead + 16 + 16, python.list_type);
  python.top();
  const Taken taken = take(python, true);
  EXPECT_EQ(taken.of("builtins.list").all, (CountBytes{1, 56}));
  EXPECT_EQ(taken.of("builtins.str").all, (CountBytes{1, 949}));
  EXPECT_EQ(taken.census.chunks.objects, (CountBytes{2, 64 + 1024}));
  EXPECT_EQ(taken.census.chunks.other, (CountBytes{2, 4096 + 32}));
  EXPECT_TRUE(taken.census.rings_whole);
}

TEST(Census, MmappedChunksDoNotDependOnWhatWasSweptBefore) {
  const auto offset_of = [](bool instance_first) {
    FakePython python;
    python.main_heap(1 << 16);
    python.used(64);
    python.top();
    // Both an int and, behind what would be its GC head, a list.
    const Addr first = 0x7f6000000000;
    const Addr second = first + (1 << 21);
    python.add_memory(first, 1 << 20, "");
    python.add_memory(second, 1 << 20, "");
    if (instance_first) {
      python.head(first + 16 + 16, python.list_type);
      python.put(first + 16 + 16 + 32, 50000);
    }
    python.head(second + 16, python.int_type, 8);
    python.put(second + 16 + 16, 1);
    python.head(second + 16 + 16, python.list_type);
    Taken taken;
    taken.process = python.process();
    Findings of_search;
    taken.process.malloc = find_heap(taken.process.snapshot, of_search);
    for (const Addr at : {first, second}) {
      MmappedChunk chunk;
      chunk.mapping = {at, at + (1 << 20)};
      chunk.address = at;
      chunk.size_bytes = 1 << 20;
      taken.process.malloc.heap->mmapped.push_back(chunk);
    }
    taken.census = take_census(taken.process, Progress::none(), taken.findings);
    return taken.of("builtins.int").all.count;
  };
  EXPECT_EQ(offset_of(true), offset_of(false));
}

// Everything that a census says, with types by address rather than by the order in which threads met them.
std::string everything(const Taken& taken) {
  std::string text;
  const auto add = [&](const CountBytes& value) {
    text += std::to_string(value.count) + "/" + std::to_string(value.bytes) + " ";
  };
  std::map<Addr, TypeId> ids;
  for (TypeId id = 0; id < taken.census.by_type.size(); ++id) ids[taken.census.types->info(id).address] = id;
  for (const auto& [address, id] : ids) {
    if (taken.census.by_type[id].all.count == 0) continue;
    text += taken.census.types->info(id).module + "." + taken.census.types->info(id).name + " ";
    add(taken.census.by_type[id].all);
    add(taken.census.by_type[id].tracked);
  }
  for (const TypeTotals& totals : taken.census.by_size) add(totals.all), add(totals.tracked);
  for (const BlockContents* contents : {&taken.census.pools, &taken.census.chunks, &taken.census.mmapped}) {
    add(contents->objects);
    add(contents->other);
  }
  add(taken.census.total);
  add(taken.census.tracked);
  text += std::to_string(taken.census.objects_elsewhere) + (taken.census.rings_whole ? " whole\n" : " broken\n");
  for (const Finding& finding : taken.findings.kept()) {
    text += std::string(finding.code) + " " + std::to_string(finding.address) + " " + finding.detail + "\n";
    text += std::to_string(taken.findings.count(finding.code)) + "\n";
  }
  return text;
}

TEST(Census, IsTheSameByAnyNumberOfThreads) {
  FakePython python;
  python.main_heap(1 << 20);
  for (int i = 0; i < 200; ++i) {
    const Addr chunk = python.used(640 + 16 * (static_cast<std::uint64_t>(i) % 20));
    if (i % 3 != 0) python.ascii_at(chunk + 16, std::string(550, 'y'));
  }
  python.top();
  std::vector<Addr> types;
  for (int i = 0; i < 50; ++i) types.push_back(python.static_type({"m.T" + std::to_string(i), 32}));
  std::vector<Addr> nodes;
  for (std::uint32_t a = 0; a < 12; ++a) {
    python.arena(kFirstArena + a * 2 * kArenaBytes);
    for (int p = 0; p < 30; ++p) {
      const Addr pool = python.pool(a, 64);
      for (int b = 0; b < 200; ++b) {
        const Addr block = python.block(pool);
        switch ((b * 7 + p + static_cast<int>(a)) % 4) {
          case 0:
            python.head(block + 32, python.node_type);
            python.track(block + 16, python.generation(static_cast<unsigned>(b) % 3));
            nodes.push_back(block);
            break;
          case 1:
            python.head(block, types[static_cast<std::size_t>(b * p) % types.size()]);
            break;
          case 2:  // ambiguous on purpose
            python.head(block, python.int_type, 8);
            python.head(block + 16, python.list_type);
            break;
          default:
            python.put(block, 0x6f6c6c6568);
            break;
        }
      }
      // Damage of every kind, more of it than is kept.
      if (p % 5 == 1) python.put32(pool + python.layout().pool_header.arenaindex.offset, 99);
      if (p % 5 == 2) python.put(pool + python.layout().pool_header.freeblock.offset, pool + 51);
      if (p % 5 == 3) python.lose({pool, pool + kPoolBytes});
    }
  }
  std::string expected;
  for (const std::size_t threads : {1U, 2U, 8U}) {
    const tbb::global_control control(tbb::global_control::max_allowed_parallelism, threads);
    for (int round = 0; round < 4; ++round) {
      const Taken taken = take(python, true);
      EXPECT_GT(taken.findings.count("obmalloc-pool-damaged"), Findings::kKeptPerCode);
      const std::string text = everything(taken);
      if (expected.empty()) expected = text;
      ASSERT_EQ(text, expected) << threads;
    }
  }
}

}  // namespace
}  // namespace heapcore::testing
