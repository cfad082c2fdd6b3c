// The ledger: labels for each kind of memory, and a total that is the mapped bytes whatever the allocators claim.
#include "analysis/ledger.h"

#include <gtest/gtest.h>

#include <random>

#include "py_builder.h"

namespace heapcore::testing {
namespace {

Mapping mapping(Addr start, std::uint64_t bytes, const std::string& path = "") {
  Mapping result;
  result.start = start;
  result.end = start + bytes;
  result.path = path;
  result.readable = result.writable = true;
  return result;
}

// A process of mappings only, all present unless said otherwise.
struct Fake {
  Process process;
  Findings findings;
  std::vector<Segment> segments;

  Mapping& add(const Mapping& mapping, ByteState state = ByteState::kZeroFill) {
    segments.push_back({mapping.start, mapping.end, nullptr, state, false});
    process.snapshot.mappings.push_back(mapping);
    return process.snapshot.mappings.back();
  }
  Ledger ledger(const Census* census = nullptr, const ObmallocUse* obmalloc = nullptr) {
    process.snapshot.space.assign(segments);
    return make_ledger(process, census, obmalloc, findings);
  }
  Heap& heap() {
    if (!process.malloc.heap) process.malloc.heap.emplace();
    return *process.malloc.heap;
  }
};

std::uint64_t row(const Ledger& ledger, std::string_view category, std::string_view detail) {
  for (const LedgerRow& row : ledger.rows) {
    if (row.category == category && row.detail == detail) return row.bytes;
  }
  return 0;
}

void expect_adds_up(const Ledger& ledger, const Snapshot& snapshot) {
  std::uint64_t bytes = 0;
  for (const LedgerRow& row : ledger.rows) {
    bytes += row.bytes;
    EXPECT_GT(row.bytes, 0U);
    EXPECT_LE(row.bytes, snapshot.mapped_bytes()) << row.category << " " << row.detail;  // none has wrapped
    EXPECT_LE(row.not_dumped_bytes, row.bytes) << row.category << " " << row.detail;
  }
  EXPECT_EQ(bytes, ledger.mapped_bytes);
  EXPECT_EQ(ledger.mapped_bytes, snapshot.mapped_bytes());
}

TEST(Ledger, LabelsMappings) {
  Fake fake;
  fake.process.snapshot.info.pid = 10;
  Module module;
  module.path = "/bin/program";
  module.range = {0x1000000, 0x1004000};
  fake.process.snapshot.modules.push_back(module);
  fake.add(mapping(0x1000000, 0x1000, "/bin/program"));
  fake.add(mapping(0x1001000, 0x2000));  // .bss inside the module
  fake.add(mapping(0x1003000, 0x1000, "/bin/program"));
  fake.add(mapping(0x1004000, 0x800000));  // .bss behind it
  fake.add(mapping(0x2000000, 0x3000, "/data/file"));
  fake.add(mapping(0x3000000, 0x4000, "/dev/shm/x")).shared = true;
  fake.add(mapping(0x4000000, 0x5000)).shared = true;
  fake.add(mapping(0x5000000, 0x6000, "[stack]"));
  fake.add(mapping(0x6000000, 0x7000));  // a thread's stack
  fake.add(mapping(0x7000000, 0x8000, "[vvar]"));
  fake.add(mapping(0x8000000, 0x9000));
  fake.add(mapping(0x9000000, 0xa000)).writable = false;
  fake.add(mapping(0xa000000, 0xb000, "[heap]"));
  fake.add(mapping(0xb000000, 0xc000, "[anon:named]"));
  fake.add(mapping(0xc000000, 0xd000, "/lost/file"), ByteState::kNotDumped);
  fake.add(mapping(0xd000000, 0xe000, "[libcrypto.so.3]"));  // a library that only its own name is known of
  fake.add(mapping(0xe000000, 0xf000, "[vvar_vclock]"));
  Thread main_thread;
  main_thread.tid = 10;
  main_thread.sp = 0x5000100;
  Thread other;
  other.tid = 11;
  other.sp = 0x6000100;
  fake.process.snapshot.threads = {main_thread, other};
  const Ledger ledger = fake.ledger();
  expect_adds_up(ledger, fake.process.snapshot);
  EXPECT_EQ(row(ledger, "file", "/bin/program"), 0x4000U + 0x800000);
  EXPECT_EQ(row(ledger, "file", "/data/file"), 0x3000U);
  EXPECT_EQ(row(ledger, "shared file", "/dev/shm/x"), 0x4000U);
  EXPECT_EQ(row(ledger, "shared memory", ""), 0x5000U);
  EXPECT_EQ(row(ledger, "stack", "main thread"), 0x6000U);
  EXPECT_EQ(row(ledger, "stack", "other threads"), 0x7000U);
  EXPECT_EQ(row(ledger, "kernel", "[vvar]"), 0x8000U);
  EXPECT_EQ(row(ledger, "kernel", "[vvar_vclock]"), 0xf000U);
  EXPECT_EQ(row(ledger, "file", "[libcrypto.so.3]"), 0xe000U);
  EXPECT_EQ(row(ledger, "anonymous", "not writable"), 0xa000U);
  EXPECT_EQ(row(ledger, "anonymous", ""), 0x9000U + 0xb000 + 0xc000);
  EXPECT_EQ(row(ledger, "file", "/lost/file"), 0xd000U);
  for (const LedgerRow& row : ledger.rows) {
    EXPECT_EQ(row.not_dumped_bytes, row.detail == "/lost/file" ? 0xd000U : 0U);
  }
  EXPECT_TRUE(fake.findings.kept().empty());
}

TEST(Ledger, ThreadHeapsAndWhatTheyReserve) {
  Fake fake;
  constexpr Addr kHeap = 0x7e0000000000;
  constexpr std::uint64_t kReserved = 64 << 20;
  fake.add(mapping(kHeap, 0x21000));
  fake.add(mapping(kHeap + 0x21000, kReserved - 0x21000)).writable = false;
  fake.add(mapping(kHeap + kReserved, 0x1000)).writable = false;  // no part of it
  Heap& heap = fake.heap();
  heap.arenas.resize(2);
  heap.arenas[0].is_main = true;
  heap.arenas[1].heaps = {{kHeap, kHeap + 0x21000}};
  heap.arenas[1].totals.of(ChunkState::kInUse) = {3, 0x10000};
  heap.arenas[1].totals.of(ChunkState::kTop) = {1, 0x10000};
  heap.arenas[1].totals.overhead_bytes = 0x1000;
  heap.regions.push_back({{kHeap + 0x900, kHeap + 0x21000}, 1, true, false, 0x900});
  const Ledger ledger = fake.ledger();
  expect_adds_up(ledger, fake.process.snapshot);
  EXPECT_EQ(row(ledger, "malloc in use", ""), 0x10000U);
  EXPECT_EQ(row(ledger, "malloc free", "top"), 0x10000U);
  EXPECT_EQ(row(ledger, "malloc overhead", ""), 0x1000U);
  EXPECT_EQ(row(ledger, "malloc reserved", "not yet used part of thread arenas"), kReserved - 0x21000);
  EXPECT_EQ(row(ledger, "anonymous", "not writable"), 0x1000U);
}

TEST(Ledger, SplitsWhatObmallocCounted) {
  FakePython python;
  python.arena(kFirstArena);
  const Addr pool = python.pool(0, 64);
  const Addr lost = python.pool(0, 64);
  for (int i = 0; i < 10; ++i) python.block(pool);
  python.block(lost);
  python.lose({lost, lost + kPoolBytes});
  Process process = python.process();
  Findings findings;
  const ObmallocUse use = summarise_obmalloc(process.snapshot, *process.runtime(), findings);
  Census census;
  census.pools.objects = {7, 7 * 64};
  const Ledger ledger = make_ledger(process, &census, &use, findings);
  expect_adds_up(ledger, process.snapshot);
  EXPECT_EQ(row(ledger, "python objects", "in obmalloc pools"), 7U * 64);
  EXPECT_EQ(row(ledger, "python tables and buffers", "in obmalloc pools"), 3U * 64);
  EXPECT_EQ(row(ledger, "obmalloc free", "blocks in used pools"), 245U * 64);
  EXPECT_EQ(row(ledger, "obmalloc free", "free pools"), 62 * kPoolBytes);
  EXPECT_EQ(row(ledger, "obmalloc overhead", ""), kPoolBytes - 255 * 64);
  EXPECT_EQ(row(ledger, "obmalloc lost", ""), kPoolBytes);
  for (const LedgerRow& row : ledger.rows) {
    if (row.category == "obmalloc lost") {
      EXPECT_EQ(row.not_dumped_bytes, kPoolBytes);
    }
  }
}

TEST(Ledger, ClaimsThatCannotBeAreDropped) {
  Fake fake;
  fake.add(mapping(0x10000000, 2 << 20));
  ObmallocUse use;
  use.arena_bytes = kArenaBytes;
  const Addr claims[] = {
      0x10000000,  // sound
      0x10080000,  // over the first
      0x10180000,  // beyond the mapping's end
      0x50000000,  // nowhere
  };
  for (const Addr address : claims) {
    ArenaUse arena;
    arena.arena.address = address;
    arena.bytes = kArenaBytes;
    use.arenas.push_back(arena);
  }
  use.bytes_in_use = 4 * kArenaBytes;
  const Ledger ledger = fake.ledger(nullptr, &use);
  expect_adds_up(ledger, fake.process.snapshot);
  EXPECT_EQ(fake.findings.count("ledger-claim-dropped"), 3U);
  EXPECT_EQ(row(ledger, "python tables and buffers", "in obmalloc pools"), kArenaBytes);
  EXPECT_EQ(row(ledger, "anonymous", ""), kArenaBytes);
}

TEST(Ledger, OneClaimMaySpanSeveralMappings) {
  Fake fake;
  fake.add(mapping(0x10000000, 0x10000));
  fake.add(mapping(0x10010000, 0x20000));
  fake.add(mapping(0x10030000, 0x1000));
  fake.heap().regions.push_back({{0x10008000, 0x10030800}, 0, true, true, 0});
  fake.heap().arenas.resize(1);
  fake.heap().arenas[0].totals.of(ChunkState::kInUse) = {1, 0x100};
  const Ledger ledger = fake.ledger();
  expect_adds_up(ledger, fake.process.snapshot);
  EXPECT_EQ(row(ledger, "anonymous", ""), 0x8000U + 0x800);
  EXPECT_EQ(row(ledger, "malloc lost", ""), 0x28800U - 0x100);
}

TEST(Ledger, LargestFirstWithCategoriesTogether) {
  Fake fake;
  fake.add(mapping(0x1000000, 0x1000, "/a"));
  fake.add(mapping(0x2000000, 0x9000));
  fake.add(mapping(0x3000000, 0x5000, "/b"));
  fake.add(mapping(0x4000000, 0x5000, "/c"));
  const Ledger ledger = fake.ledger();
  ASSERT_EQ(ledger.rows.size(), 4U);
  EXPECT_EQ(ledger.rows[0].detail, "/b");
  EXPECT_EQ(ledger.rows[1].detail, "/c");
  EXPECT_EQ(ledger.rows[2].detail, "/a");
  EXPECT_EQ(ledger.rows[3].category, "anonymous");
}

TEST(Ledger, TotalsAreTheMappedBytesWhateverIsClaimed) {
  std::mt19937_64 random(4711);
  const auto some = [&](std::uint64_t bound) { return random() % (bound + 1); };
  const auto counted = [&] { return CountBytes{some(100), some(1 << 22)}; };
  for (int round = 0; round < 5000; ++round) {
    Fake fake;
    Addr at = 0x10000000;
    const auto count = 1 + some(20);
    for (std::uint64_t i = 0; i < count; ++i) {
      at += some(3) * 0x40000;
      Mapping next =
          mapping(at, 0x1000 + some(40) * 0x20000, std::vector<std::string>{"", "", "/f", "[heap]"}[some(3)]);
      next.shared = some(9) == 0;
      next.writable = some(4) != 0;
      at = next.end;
      fake.add(next, some(3) == 0 ? ByteState::kNotDumped : ByteState::kZeroFill);
    }
    // Claims anywhere near the mappings, mostly at their edges.
    const auto place = [&]() -> Addr {
      const Mapping& near = fake.process.snapshot.mappings[some(count - 1)];
      switch (some(4)) {
        case 0:
          return near.start;
        case 1:
          return near.end;
        case 2:
          return near.end - std::min<std::uint64_t>(near.size_bytes(), kArenaBytes);
        case 3:
          return 0xfffffffffff00000 + some(0xfffff);
        default:
          return near.start + some(near.size_bytes());
      }
    };
    ObmallocUse use;
    use.arena_bytes = kArenaBytes;
    for (std::uint64_t i = some(6); i > 0; --i) {
      ArenaUse arena;
      arena.arena.address = place();
      arena.bytes = kArenaBytes;
      use.arenas.push_back(arena);
    }
    use.bytes_in_use = some(8 << 20);
    use.bytes_free_pools = some(1 << 20);
    use.bytes_free = use.bytes_free_pools + some(1 << 20);
    use.bytes_overhead = some(1 << 20);
    if (some(3) != 0) {
      Heap& heap = fake.heap();
      heap.arenas.resize(1 + some(2));
      for (Arena& arena : heap.arenas) {
        arena.is_main = &arena == &heap.arenas[0];
        for (CountBytes& state : arena.totals.by_state) state = counted();
        arena.totals.overhead_bytes = some(10000);
        const Addr start = place();
        if (start < 0xf000000000000000) arena.heaps.push_back({start, start + some(0x40000)});
      }
      for (std::uint64_t i = some(5); i > 0; --i) {
        const Addr start = place();
        heap.regions.push_back({{start, start + some(0x40000)}, 0, true, false, some(0x1000)});  // its end may wrap
      }
      for (std::uint64_t i = some(5); i > 0; --i) {
        const Addr start = place();
        MmappedChunk chunk;
        chunk.mapping = {start, start + some(0x80000)};
        chunk.address = start;
        heap.mmapped.push_back(chunk);
      }
    }
    Census census;
    census.pools.objects = counted();
    census.chunks.objects = counted();
    census.mmapped.objects = counted();
    const Ledger ledger = fake.ledger(some(1) == 0 ? &census : nullptr, some(3) != 0 ? &use : nullptr);
    expect_adds_up(ledger, fake.process.snapshot);
    if (HasFailure()) FAIL() << "round " << round;
  }
}

}  // namespace
}  // namespace heapcore::testing
