// obmalloc on synthesised arenas: what is expected is what the test carved and freed itself.
#include "pyobj/obmalloc.h"

#include <gtest/gtest.h>

#include <random>

#include "py_builder.h"

namespace heapcore::testing {
namespace {

constexpr std::uint64_t capacity_of(std::uint64_t block_bytes) {
  return (kPoolBytes - kPoolHeaderBytes) / block_bytes;
}

ObmallocUse summarise(FakePython& python, Findings& findings) {
  return summarise_obmalloc(python.snapshot(), python.runtime(), findings);
}

void expect_adds_up(const ObmallocUse& use) {
  EXPECT_EQ(use.bytes, use.arenas.size() * kArenaBytes);
  EXPECT_EQ(use.bytes, use.bytes_in_use + use.bytes_free + use.bytes_overhead + use.bytes_lost);
  // None of them has wrapped.
  for (const std::uint64_t part :
       {use.bytes_in_use, use.bytes_free, use.bytes_overhead, use.bytes_lost, use.bytes_free_pools}) {
    EXPECT_LE(part, use.bytes);
  }
  EXPECT_LE(use.bytes_free_pools, use.bytes_free);
}

// One pool in an arena of its own.
struct OnePool {
  FakePython python;
  Addr pool = 0;

  explicit OnePool(std::uint32_t block_bytes = 64) {
    python.arena(kFirstArena);
    pool = python.pool(0, block_bytes);
  }
  PyArena arena() {
    PyArena arena;
    arena.address = arena.first_pool = kFirstArena;
    arena.carved_end = pool + kPoolBytes;
    arena.ntotalpools = 64;
    arena.nfreepools = 63;
    return arena;
  }
  bool read(PoolHeader& header, FreeBlocks& free, Findings& findings) {
    const Snapshot snapshot = python.snapshot();
    Reader reader(snapshot.space);
    const auto bytes = reader.span(pool, kPoolBytes);
    if (!read_pool(bytes, pool, arena(), python.py_traits(), header, findings)) return false;
    if (header.blocks_in_use != 0) read_free_blocks(bytes, header, free, findings);
    return true;
  }
  Addr field(const Field& field) const { return pool + field.offset; }
  const auto& fields() const { return python.layout().pool_header; }
};

TEST(Obmalloc, CountsWhatWasCarvedAndFreed) {
  FakePython python;
  python.arena(kFirstArena);
  const Addr small = python.pool(0, 32);
  const Addr large = python.pool(0, 512);
  const Addr emptied = python.pool(0, 48);
  std::vector<Addr> blocks;
  for (int i = 0; i < 100; ++i) blocks.push_back(python.block(small));
  for (int i = 0; i < 40; ++i) python.free_block(small, blocks[static_cast<std::size_t>(i) * 2]);
  for (int i = 0; i < 31; ++i) python.block(large);
  python.block(emptied);
  python.free_pool(0, emptied);

  Findings findings;
  const ObmallocUse use = summarise(python, findings);
  EXPECT_TRUE(findings.kept().empty());
  ASSERT_EQ(use.arenas.size(), 1U);
  EXPECT_EQ(use.arenas[0].pools, 2U);
  EXPECT_EQ(use.arenas[0].free_pools, 62U);
  EXPECT_EQ(use.blocks_in_use, 60U + 31U);
  EXPECT_EQ(use.bytes_in_use, 60U * 32 + 31U * 512);
  EXPECT_EQ(use.bytes_free_pools, 62 * kPoolBytes);
  EXPECT_EQ(use.bytes_free, 62 * kPoolBytes + (capacity_of(32) - 60) * 32);
  EXPECT_EQ(use.bytes_lost, 0U);
  ASSERT_EQ(use.classes.size(), 2U);
  EXPECT_EQ(use.classes[0].block_bytes, 32U);
  EXPECT_EQ(use.classes[0].pools, 1U);
  EXPECT_EQ(use.classes[0].blocks_in_use, 60U);
  EXPECT_EQ(use.classes[0].blocks_free, capacity_of(32) - 60);
  EXPECT_EQ(use.classes[1].blocks_free, 0U);
  EXPECT_EQ(use.classes[1].block_bytes, 512U);
  expect_adds_up(use);
}

TEST(Obmalloc, TellsUsedFreeAndNeverCarvedBlocksApart) {
  OnePool one(48);
  std::vector<Addr> blocks;
  for (int i = 0; i < 9; ++i) blocks.push_back(one.python.block(one.pool));
  for (const std::size_t i : {7U, 0U, 3U}) one.python.free_block(one.pool, blocks[i]);
  PoolHeader header;
  FreeBlocks free;
  Findings findings;
  ASSERT_TRUE(one.read(header, free, findings));
  EXPECT_TRUE(findings.kept().empty());
  EXPECT_EQ(header.block_bytes, 48U);
  EXPECT_EQ(header.blocks_in_use, 6U);
  EXPECT_EQ(header.nextoffset, kPoolHeaderBytes + 9 * 48);
  EXPECT_EQ(free.count, 3U);
  for (std::uint32_t i = 0; i < 9; ++i) EXPECT_EQ(free.test(i), i == 0 || i == 3 || i == 7) << i;
}

TEST(Obmalloc, EveryBlockSizeFillsItsPool) {
  for (std::uint32_t size = 16; size <= 512; size += 16) {
    OnePool one(size);
    for (std::uint64_t i = 0; i < capacity_of(size); ++i) one.python.block(one.pool);
    Findings findings;
    const ObmallocUse use = summarise(one.python, findings);
    EXPECT_TRUE(findings.kept().empty()) << size;
    EXPECT_EQ(use.bytes_in_use, capacity_of(size) * size);
    EXPECT_EQ(use.bytes_overhead, kPoolBytes - capacity_of(size) * size);
    expect_adds_up(use);
  }
}

TEST(Obmalloc, AnUnalignedArenaHasOnePoolLess) {
  FakePython python;
  python.arena(kFirstArena + 0x1000);
  python.arena(kFirstArena + 4 * kArenaBytes);
  for (int i = 0; i < 63; ++i) python.block(python.pool(0, 16));
  for (int i = 0; i < 64; ++i) python.block(python.pool(1, 16));
  Findings findings;
  const ObmallocUse use = summarise(python, findings);
  EXPECT_TRUE(findings.kept().empty());
  ASSERT_EQ(use.arenas.size(), 2U);
  EXPECT_EQ(use.arenas[0].arena.first_pool, kFirstArena + 0x4000);
  EXPECT_EQ(use.arenas[0].pools, 63U);
  EXPECT_EQ(use.arenas[1].pools, 64U);
  EXPECT_EQ(use.free_pools, 0U);
  EXPECT_EQ(use.bytes_overhead, 2 * kArenaBytes - (63 + 64) * capacity_of(16) * 16);
  expect_adds_up(use);
}

TEST(Obmalloc, AFreeListThatLeavesThePoolIsAFinding) {
  for (const bool above : {false, true}) {
    OnePool one;
    const Addr first = one.python.block(one.pool);
    one.python.block(one.pool);
    one.python.free_block(one.pool, first);
    const Addr outside = above ? one.pool + kPoolHeaderBytes + 2 * 64 : one.pool;  // never carved; the header
    one.python.put(first, outside);
    PoolHeader header;
    FreeBlocks free;
    Findings findings;
    ASSERT_TRUE(one.read(header, free, findings));
    EXPECT_EQ(findings.count("obmalloc-freelist-damaged"), 1U);
    EXPECT_EQ(findings.kept()[0].address, one.pool);
    EXPECT_EQ(free.count, 1U);  // what was read counts as free
    EXPECT_TRUE(free.test(0));
  }
}

TEST(Obmalloc, AFreeListThatMeetsItselfIsAFinding) {
  OnePool one;
  const Addr first = one.python.block(one.pool);
  const Addr second = one.python.block(one.pool);
  one.python.block(one.pool);
  one.python.free_block(one.pool, first);
  one.python.free_block(one.pool, second);
  one.python.put(first, second);
  PoolHeader header;
  FreeBlocks free;
  Findings findings;
  ASSERT_TRUE(one.read(header, free, findings));
  EXPECT_EQ(findings.count("obmalloc-freelist-damaged"), 1U);
  EXPECT_EQ(free.count, 2U);
}

TEST(Obmalloc, AFreeListThatPointsIntoABlockIsAFinding) {
  OnePool one;
  const Addr first = one.python.block(one.pool);
  one.python.block(one.pool);
  one.python.free_block(one.pool, first);
  one.python.put(one.field(one.fields().freeblock), first + 8);
  PoolHeader header;
  FreeBlocks free;
  Findings findings;
  ASSERT_TRUE(one.read(header, free, findings));
  EXPECT_EQ(findings.count("obmalloc-freelist-damaged"), 1U);
  EXPECT_EQ(free.count, 0U);
}

TEST(Obmalloc, CountsThatDisagreeAreAFinding) {
  OnePool one;
  one.python.block(one.pool);
  one.python.block(one.pool);
  one.python.put32(one.field(one.fields().ref_count), 1);
  PoolHeader header;
  FreeBlocks free;
  Findings findings;
  ASSERT_TRUE(one.read(header, free, findings));
  EXPECT_EQ(findings.count("obmalloc-count-disagrees"), 1U);
}

TEST(Obmalloc, AHeaderThatDoesNotAddUpIsRefused) {
  const auto refused = [](const auto& damage) {
    OnePool one;
    one.python.block(one.pool);
    damage(one);
    PoolHeader header;
    FreeBlocks free;
    Findings findings;
    const bool read = one.read(header, free, findings);
    EXPECT_EQ(findings.count("obmalloc-pool-damaged"), read ? 0U : 1U);
    Findings of_summary;
    const ObmallocUse use = summarise(one.python, of_summary);
    EXPECT_EQ(use.bytes_lost, read ? 0 : kPoolBytes);
    EXPECT_EQ(use.blocks_in_use, read ? 1U : 0U);
    expect_adds_up(use);
    return !read;
  };
  EXPECT_FALSE(refused([](OnePool&) {}));
  EXPECT_TRUE(refused([](OnePool& o) { o.python.put32(o.field(o.fields().arenaindex), 1); }));
  EXPECT_TRUE(refused([](OnePool& o) { o.python.put32(o.field(o.fields().arenaindex), ~0U); }));
  EXPECT_TRUE(refused([](OnePool& o) { o.python.put32(o.field(o.fields().szidx), 6); }));
  EXPECT_TRUE(refused([](OnePool& o) { o.python.put32(o.field(o.fields().szidx), ~0U); }));
  EXPECT_TRUE(refused([](OnePool& o) { o.python.put32(o.field(o.fields().nextoffset), 47); }));
  EXPECT_TRUE(refused([](OnePool& o) { o.python.put32(o.field(o.fields().nextoffset), 48 + 63); }));
  EXPECT_TRUE(refused([](OnePool& o) { o.python.put32(o.field(o.fields().nextoffset), 48 + 64 * 256); }));
  EXPECT_TRUE(refused([](OnePool& o) { o.python.put32(o.field(o.fields().maxnextoffset), 16 << 10); }));
  EXPECT_TRUE(refused([](OnePool& o) { o.python.put32(o.field(o.fields().maxnextoffset), ~0U); }));
  EXPECT_TRUE(refused([](OnePool& o) { o.python.put32(o.field(o.fields().maxnextoffset), 0); }));
  EXPECT_TRUE(refused([](OnePool& o) { o.python.put32(o.field(o.fields().ref_count), 256); }));
}

TEST(Obmalloc, AFreePoolsStaleHeaderIsNotRead) {
  OnePool one;
  one.python.block(one.pool);
  one.python.free_pool(0, one.pool);
  one.python.put32(one.field(one.fields().arenaindex), 77);
  one.python.put32(one.field(one.fields().maxnextoffset), 1);
  Findings findings;
  const ObmallocUse use = summarise(one.python, findings);
  EXPECT_TRUE(findings.kept().empty());
  EXPECT_EQ(use.bytes_free, kArenaBytes);
}

TEST(Obmalloc, MissingPoolsAreReportedAndCountAsLost) {
  FakePython python;
  python.arena(kFirstArena);
  const Addr kept = python.pool(0, 64);
  const Addr missing = python.pool(0, 64);
  const Addr half_missing = python.pool(0, 64);
  for (const Addr pool : {kept, missing, half_missing}) python.block(pool);
  python.lose({missing, missing + kPoolBytes});
  python.lose({half_missing + kPoolBytes - 16, half_missing + kPoolBytes});
  Findings findings;
  const ObmallocUse use = summarise(python, findings);
  EXPECT_EQ(findings.count("obmalloc-pool-missing"), 2U);
  EXPECT_EQ(use.bytes_lost, 2 * kPoolBytes);
  EXPECT_EQ(use.bytes_in_use, 64U);
  EXPECT_EQ(use.free_pools, 61U);
  expect_adds_up(use);
}

TEST(Obmalloc, AnArenaWhoseCountOfFreePoolsIsWrongIsAFinding) {
  OnePool one;
  one.python.block(one.pool);
  one.python.put32(one.python.arena_object(0) + one.python.layout().arena_object.nfreepools.offset, 60);
  Findings findings;
  const ObmallocUse use = summarise(one.python, findings);
  EXPECT_EQ(findings.count("obmalloc-arena-disagrees"), 1U);
  EXPECT_EQ(use.free_pools, 63U);
  expect_adds_up(use);
}

TEST(Obmalloc, DamagedArenaObjectsAreLeftOut) {
  const auto& fields = FakePython().layout().arena_object;
  const struct {
    const Field& field;
    std::uint64_t value;
  } cases[] = {
      {fields.address, kFirstArena + 0x1000},       // then it would have 63 pools
      {fields.address, 0xfffffffffff00000},         // its end wraps
      {fields.pool_address, kFirstArena - 0x4000},  // before the arena
      {fields.pool_address, kFirstArena + 2 * kArenaBytes},
      {fields.ntotalpools, 63},
      {fields.nfreepools, 65 | std::uint64_t{64} << 32},
  };
  for (const auto& damage : cases) {
    FakePython python;
    python.arena(kFirstArena);
    python.arena(kFirstArena + 2 * kArenaBytes);
    python.block(python.pool(0, 64));
    python.block(python.pool(1, 64));
    python.put(python.arena_object(0) + damage.field.offset, damage.value);
    Findings findings;
    const ObmallocUse use = summarise(python, findings);
    EXPECT_EQ(findings.count("obmalloc-arena-damaged"), 1U) << damage.value;
    ASSERT_EQ(use.arenas.size(), 1U);
    EXPECT_EQ(use.arenas[0].arena.address, kFirstArena + 2 * kArenaBytes);
    expect_adds_up(use);
  }
}

TEST(Obmalloc, OverlappingArenaObjectsCountOnce) {
  FakePython python;
  python.arena(kFirstArena);
  python.arena(kFirstArena + 2 * kArenaBytes);
  python.block(python.pool(0, 64));
  // The second one is said to lie half over the first.
  const Addr at = python.arena_object(1);
  python.put(at + python.layout().arena_object.address.offset, kFirstArena + kArenaBytes / 2);
  python.put(at + python.layout().arena_object.pool_address.offset, kFirstArena + kArenaBytes);
  Findings findings;
  const ObmallocUse use = summarise(python, findings);
  EXPECT_EQ(findings.count("obmalloc-arenas-overlap"), 1U);
  EXPECT_EQ(use.bytes, kArenaBytes);
  EXPECT_EQ(use.blocks_in_use, 1U);
  expect_adds_up(use);
}

TEST(Obmalloc, ATableThatIsCutShortKeepsItsBeginning) {
  FakePython python;
  python.arena(kFirstArena);
  python.block(python.pool(0, 64));
  python.lose({python.arena_object(3), python.arena_object(4)});
  Findings findings;
  const ObmallocUse use = summarise(python, findings);
  EXPECT_EQ(findings.count("obmalloc-table-missing"), 1U);
  EXPECT_EQ(use.arenas.size(), 1U);
}

// ---- Is it the table at all?

struct Table {
  FakePython python;
  void arenas(unsigned n) {
    for (unsigned i = 0; i < n; ++i) {
      python.arena(kFirstArena + i * 2 * kArenaBytes);
      python.block(python.pool(i, 64));
    }
  }
  bool verify(std::uint32_t count = kMaxArenaObjects, Addr address = kArenaTable) {
    const Snapshot snapshot = python.snapshot();
    Reader reader(snapshot.space);
    return verify_arena_table(reader, python.py_traits(), {address, count, "test"});
  }
  std::uint32_t plausible(Addr address = kArenaTable) {
    const Snapshot snapshot = python.snapshot();
    Reader reader(snapshot.space);
    return plausible_arena_count(reader, python.py_traits(), address);
  }
};

TEST(ArenaTable, VerifiesOnlyWhatItsPoolsConfirm) {
  Table table;
  EXPECT_FALSE(table.verify());  // no arena in use
  table.arenas(4);
  EXPECT_TRUE(table.verify());
  EXPECT_FALSE(table.verify(0));
  EXPECT_FALSE(table.verify(kMaxArenaObjects, 0));
  EXPECT_FALSE(table.verify(kMaxArenaObjects + 1));  // not all there
  EXPECT_FALSE(table.verify(~0U));
  EXPECT_FALSE(table.verify(1 << 24));
  // Off by one entry, no pool carries its arena's index.
  EXPECT_FALSE(table.verify(kMaxArenaObjects - 1, table.python.arena_object(1)));
}

TEST(ArenaTable, OneDamagedArenaOfManyDoesNotCostTheHeap) {
  Table table;
  table.arenas(4);
  table.python.put32(table.python.arena_object(2) + table.python.layout().arena_object.ntotalpools.offset, 7);
  EXPECT_TRUE(table.verify());
  table.python.put32(table.python.arena_object(1) + table.python.layout().arena_object.ntotalpools.offset, 7);
  EXPECT_FALSE(table.verify());
}

TEST(ArenaTable, ArenasThatTheSnapshotLacksProveNothing) {
  Table table;
  table.arenas(5);
  for (unsigned i = 0; i < 4; ++i) {
    const Addr start = kFirstArena + i * 2 * kArenaBytes;
    table.python.lose({start, start + kArenaBytes});
  }
  EXPECT_TRUE(table.verify());
  table.python.put32(kFirstArena + 8 * kArenaBytes + table.python.layout().pool_header.arenaindex.offset, 9);
  EXPECT_FALSE(table.verify());  // the one that can be judged is wrong
}

TEST(ArenaTable, CountsPlausibleEntries) {
  Table table;
  EXPECT_EQ(table.plausible(), 0U);
  table.arenas(3);
  EXPECT_EQ(table.plausible(), kMaxArenaObjects);
  EXPECT_EQ(table.plausible(kFirstArena), 0U);
  EXPECT_EQ(table.plausible(kArenaTable + 8), 0U);
  EXPECT_EQ(table.plausible(0x1000), 0U);
  // An unused entry's link leads to another entry, or nowhere.
  table.python.put(table.python.arena_object(5) + table.python.layout().arena_object.nextarena.offset, kArenaTable + 7);
  EXPECT_EQ(table.plausible(), 0U);
}

TEST(ArenaTable, ZerosBehindTheTableAreNoneOfIt) {
  // As where the table ends in fresh memory: unused entries are chained, so at most one of them links nowhere.
  Table table;
  table.arenas(3);
  table.python.add_memory(kArenaTable + kMaxArenaObjects * table.python.layout().arena_object.size_bytes, 1 << 20, "");
  EXPECT_EQ(table.plausible(), kMaxArenaObjects);
}

// ---- Random damage.

TEST(Obmalloc, TotalsAddUpWhateverIsDamaged) {
  std::mt19937_64 random(20240611);
  FakePython python;
  const Addr arenas[] = {kFirstArena, kFirstArena + kArenaBytes + 0x3000, kFirstArena + 4 * kArenaBytes};
  std::vector<Addr> pools;
  for (std::uint32_t i = 0; i < 3; ++i) {
    python.arena(arenas[i]);
    for (unsigned p = 0; p < 20 + 20 * i; ++p) {
      const Addr pool = python.pool(i, 16 * static_cast<std::uint32_t>(1 + random() % 32));
      pools.push_back(pool);
      const auto blocks = 1 + random() % capacity_of(python.block_bytes(pool));
      Addr block = 0;
      for (std::uint64_t b = 0; b < blocks; ++b) block = python.block(pool);
      if (blocks > 1) python.free_block(pool, block);
    }
  }
  const Snapshot snapshot = python.snapshot();
  const PyRuntime runtime = python.runtime();
  Findings sound;
  expect_adds_up(summarise_obmalloc(snapshot, runtime, sound));
  EXPECT_TRUE(sound.kept().empty());

  const auto value = [&](Addr was) -> std::uint64_t {
    switch (random() % 8) {
      case 0:
        return 0;
      case 1:
        return ~std::uint64_t{0};
      case 2:
        return was + 1;
      case 3:
        return was - 1;
      case 4:
        return was ^ std::uint64_t{1} << random() % 64;
      case 5:
        return random() % 70;
      case 6:
        return arenas[random() % 3] + random() % 70 * kPoolBytes;
      default:
        return random();
    }
  };
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::pair<Addr, std::uint64_t>> before;
    const auto damages = 1 + random() % 12;
    for (std::uint64_t i = 0; i < damages; ++i) {
      const Addr target = random() % 2 == 0 ? kArenaTable + random() % (kMaxArenaObjects * 48 / 4 - 1) * 4
                                            : pools[random() % pools.size()] + random() % 12 * 4;
      before.emplace_back(target, python.get(target));
      python.put(target, value(before.back().second));
    }
    Findings findings;
    expect_adds_up(summarise_obmalloc(snapshot, runtime, findings));
    while (!before.empty()) {
      python.put(before.back().first, before.back().second);
      before.pop_back();
    }
    if (HasFailure()) FAIL() << "round " << round;
  }
}

}  // namespace
}  // namespace heapcore::testing
