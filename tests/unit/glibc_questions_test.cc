// What is asked of a heap that was found: its bins, its sizes, what an address is, which thread uses which arena; and
// where its layout comes from.
#include <gtest/gtest.h>

#include <numeric>

#include "glibc_heap/bins.h"
#include "glibc_heap/census.h"
#include "glibc_heap/locate.h"
#include "glibc_heap/places.h"
#include "glibc_heap_builder.h"

namespace heapcore {
namespace {

using testing::FakeProcess;
using testing::kBrkStart;
using testing::kMainArena;

struct Target {
  Snapshot snapshot;
  Findings findings;
  HeapSearch search;

  explicit Target(FakeProcess& process) : snapshot(process.snapshot()) {
    search = find_heap(snapshot, findings);
    find_mmapped(snapshot, {}, *search.heap, findings);
    count_chunks(snapshot, *search.heap, findings);
  }
  Heap& heap() { return *search.heap; }
};

TEST(GlibcBins, OneRowForEachListThatHoldsChunks) {
  FakeProcess process;
  process.main_heap(0x21000);
  const Addr tcache = process.tcache();
  for (const std::uint64_t size : {0x20, 0x20, 0x400, 0x410}) process.to_tcache(tcache, process.used(size));
  process.to_fastbin(process.used(0x40));
  for (const std::uint64_t size : {0x90, 0x800}) {
    process.used(0x20);
    process.freed(size, 1);
  }
  process.used(0x20);
  process.freed(0xa0, 0xa);
  process.used(0x20);
  process.freed(0x420, bin_index(0x420));
  process.used(0x20);
  process.freed(0x430, bin_index(0x430));
  process.used(0x20);
  process.top();
  Target target(process);
  ASSERT_TRUE(target.findings.kept().empty());
  struct Row {
    ChunkState state;
    unsigned bin;
    std::uint64_t smallest, largest;
    CountBytes total;
    bool operator==(const Row&) const = default;
  };
  std::vector<Row> rows;
  for (const SizeClass& row : size_classes(target.snapshot, target.heap(), target.findings)) {
    if (row.state == ChunkState::kInUse || row.state == ChunkState::kTop) continue;
    rows.push_back({row.state, row.bin, row.smallest_bytes, row.largest_bytes, row.total});
  }
  const std::vector<Row> expected = {
      {ChunkState::kTcache, 0, 0x20, 0x20, {2, 0x40}},     {ChunkState::kTcache, 62, 0x400, 0x400, {1, 0x400}},
      {ChunkState::kTcache, 63, 0x410, 0x410, {1, 0x410}}, {ChunkState::kFast, 2, 0x40, 0x40, {1, 0x40}},
      {ChunkState::kUnsorted, 1, 0x90, 0x800, {2, 0x890}}, {ChunkState::kSmall, 10, 0xa0, 0xa0, {1, 0xa0}},
      {ChunkState::kLarge, 64, 0x420, 0x430, {2, 0x850}}};
  EXPECT_TRUE(rows == expected) << rows.size();
}

TEST(GlibcBins, SizesInUseOfAllArenasAndMmapped) {
  FakeProcess process;
  process.main_heap(0x21000);
  for (const std::uint64_t size : {0x20, 0x30, 0x20, 0x5000, 0x5010}) process.used(size);
  process.top();
  process.thread_heap(0, 0x21000);
  process.used(0x30);
  process.top();
  process.mmapped(0x7c0000000000, 0x40000);
  Target target(process);
  const auto sizes = sizes_in_use(target.heap(), size_classes(target.snapshot, target.heap(), target.findings));
  ASSERT_EQ(sizes.size(), 4u);
  EXPECT_EQ(sizes[0].total, (CountBytes{2, 0x40}));
  EXPECT_EQ(sizes[1].total, (CountBytes{2, 0x60}));
  EXPECT_EQ(sizes[2].smallest_bytes, 0x5000u);
  EXPECT_EQ(sizes[2].largest_bytes, 0x5010u);
  EXPECT_EQ(sizes[3].total, (CountBytes{1, 0x40000}));
}

TEST(GlibcBins, LargeTcacheBinsGoByPowersOfTwo) {
  EXPECT_EQ(list_of(ChunkState::kTcache, 1040), 63u);
  EXPECT_EQ(list_of(ChunkState::kTcache, 1056), 64u);
  EXPECT_EQ(list_of(ChunkState::kTcache, 2048), 65u);
  EXPECT_EQ(list_of(ChunkState::kTcache, std::uint64_t{4} << 20), 75u);
}

TEST(GlibcPlaces, SayWhatAnAddressIs) {
  FakeProcess process;
  process.main_heap(0x3000);
  const Addr tcache = process.tcache();
  const Addr first = process.used(0x40);
  const Addr free = process.freed(0x90, 1);
  const Addr last = process.used(0x50);
  const Addr top = process.next_chunk();
  process.top();
  const Addr arena = process.thread_heap(0, 0x5000);
  process.used(0x400);
  process.top();
  process.mmapped(0x7c0000000000, 0x40000);
  Target target(process);
  const auto at = [&](Addr address) { return place_of(target.snapshot, target.heap(), address); };

  const Place middle = at(free + 0x8f);
  EXPECT_EQ(middle.kind, PlaceKind::kChunk);
  EXPECT_EQ(middle.chunk->address, free);
  EXPECT_EQ(middle.chunk->state, ChunkState::kUnsorted);
  EXPECT_EQ(middle.before->address, first);
  EXPECT_EQ(middle.after->address, last);
  EXPECT_EQ(at(last).after->state, ChunkState::kTop);
  EXPECT_EQ(at(top + 8).chunk->state, ChunkState::kTop);
  EXPECT_FALSE(at(top + 8).after);
  EXPECT_FALSE(at(kBrkStart).before);
  ASSERT_NE(at(tcache).tcache, nullptr);
  EXPECT_EQ(at(tcache).tcache->tid, 100);
  EXPECT_EQ(at(0x7c0000012345).kind, PlaceKind::kMmapped);
  EXPECT_EQ(at(kMainArena + 96).kind, PlaceKind::kArena);
  EXPECT_EQ(at(arena + 96).kind, PlaceKind::kOverhead);
  EXPECT_EQ(at(arena + 96).arena, 1u);
  EXPECT_EQ(at(0x1000).kind, PlaceKind::kNone);
}

TEST(GlibcPlaces, DamageIsInNoChunk) {
  FakeProcess process;
  process.main_heap(0x3000);
  std::vector<Addr> chunks;
  for (int i = 0; i < 40; ++i) chunks.push_back(process.used(0x60));
  process.top();
  process.put(chunks[20] + 8, 0x4141414141414141);
  Target target(process);
  const Place place = place_of(target.snapshot, target.heap(), chunks[20] + 32);
  EXPECT_EQ(place.kind, PlaceKind::kNoChunk);
  EXPECT_EQ(place.before->address, chunks[19]);
  EXPECT_EQ(place.after->address, chunks[21]);
}

// thread_arena lies beside the pointer to the tcache, at the same offset in every thread.
TEST(GlibcThreads, ArenasOfThreads) {
  FakeProcess process;
  process.main_heap(0x3000);
  process.tcache();
  process.top();
  const Addr used = process.thread_heap(0, 0x5000);
  process.tcache();
  process.freed(0x600, 1);
  process.used(0x20);
  process.top();
  const Addr idle = process.thread_heap(1, 0x3000);
  process.used(0x20);
  process.top();
  process.put(idle + process.layout().malloc_state.attached_threads.offset, 0);
  process.thread(0);  // has called malloc never
  process.put(testing::kLibcData + 16, static_cast<std::uint64_t>(-88));
  const Snapshot threads = process.snapshot();
  process.put(threads.threads[0].thread_pointer - 88, kMainArena);
  process.put(threads.threads[1].thread_pointer - 88, used);
  Target target(process);
  EXPECT_TRUE(target.findings.kept().empty());
  ASSERT_EQ(target.heap().arenas.size(), 3u);
  EXPECT_TRUE(target.heap().thread_arenas_known);
  for (const Arena& arena : target.heap().arenas) {
    const std::vector<std::int32_t> expected = arena.is_main           ? std::vector{100}
                                               : arena.address == used ? std::vector{101}
                                                                       : std::vector<std::int32_t>{};
    EXPECT_EQ(arena.threads, expected);
  }
  const Heap::Confined confined = target.heap().confined();
  EXPECT_EQ(confined.arenas, 2u);
  EXPECT_EQ(confined.idle_arenas, 1u);
  std::uint64_t free[2] = {};
  for (const Arena& arena : target.heap().arenas) {
    if (!arena.is_main) free[arena.address == idle] = arena.totals.free().bytes;
  }
  EXPECT_EQ(confined.free_bytes, free[0] + free[1]);
  EXPECT_EQ(confined.idle_bytes, free[1]);

  // A count that contradicts the threads is a note.
  process.put(idle + process.layout().malloc_state.attached_threads.offset, 2);
  Target other(process);
  EXPECT_EQ(other.findings.count("attached-threads-mismatch"), 1u);
  EXPECT_FALSE(other.findings.incomplete());
}

TEST(GlibcTrim, TcachesHoldPagesBack) {
  FakeProcess process;
  process.main_heap(0x40000);
  const Addr tcache = process.tcache();
  process.used(0x1000 - (process.next_chunk() - kBrkStart));
  process.freed(0x3000, 1);                       // 0x1000 to 0x4000: one page kept for its links
  process.to_tcache(tcache, process.used(0x20));  // to 0x4020
  process.freed(0x2fe0, 1);                       // to 0x7000
  process.used(0x20);
  process.top();
  Target target(process);
  const ArenaTotals& totals = target.heap().arenas[0].totals;
  EXPECT_EQ(totals.trim_chunks_bytes, 0x2000u + 0x2000u);
  EXPECT_EQ(totals.held_back_bytes, 0x1000u);  // 0x2000 to 0x7000 at one go
}

TEST(GlibcLayout, ADebugFileOfAnotherBuildSaysNothing) {
  EXPECT_FALSE(layout_of_debug_file("/proc/self/exe", "00112233"));
  EXPECT_FALSE(layout_of_debug_file("/nonexistent/.build-id/00/11.debug", "0011"));
}

}  // namespace
}  // namespace heapcore
