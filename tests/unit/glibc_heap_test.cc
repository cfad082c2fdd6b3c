// The malloc room on synthesised processes: what it finds in whole ones, in every layout, and what it says of damaged
// ones.
#include <gtest/gtest.h>

#include <random>

#include "glibc_heap/census.h"
#include "glibc_heap/chunks.h"
#include "glibc_heap/locate.h"
#include "glibc_heap_builder.h"

namespace heapcore {
namespace {

using testing::FakeProcess;
using testing::kBrkStart;
using testing::kMainArena;
using testing::kMallocPar;
using testing::kThreadHeap;

struct Answer {
  HeapSearch search;
  Findings findings;

  Heap& heap() { return *search.heap; }
  const ArenaTotals& totals(std::size_t arena = 0) { return search.heap->arenas.at(arena).totals; }
  CountBytes count(ChunkState state, std::size_t arena = 0) { return totals(arena).of(state); }
  const Finding* find(std::string_view code) {
    for (const Finding& finding : findings.kept()) {
      if (finding.code == code) return &finding;
    }
    return nullptr;
  }
  std::string codes() {
    std::string text;
    for (const Finding& finding : findings.kept()) text += std::string(finding.code) + ": " + finding.detail + "\n";
    return text;
  }
};

Answer analyse(FakeProcess& process, std::vector<AddrRange> skip = {}) {
  const Snapshot snapshot = process.snapshot();
  Answer answer;
  answer.search = find_heap(snapshot, answer.findings);
  if (answer.search.heap) {
    find_mmapped(snapshot, skip, answer.heap(), answer.findings);
    count_chunks(snapshot, answer.heap(), answer.findings);
    check_bins(snapshot, answer.heap(), answer.findings);
  }
  return answer;
}

std::uint64_t all_bytes(const ArenaTotals& totals) {
  std::uint64_t sum = totals.overhead_bytes + totals.lost_bytes;
  for (const CountBytes& kind : totals.by_state) sum += kind.bytes;
  return sum;
}

std::vector<Chunk> chunks_of(FakeProcess& process, Heap& heap) {
  const Snapshot snapshot = process.snapshot();
  Reader reader(snapshot.space);
  Findings findings;
  std::vector<Chunk> out;
  for (const Region& region : heap.regions) {
    for_each_chunk(heap, reader, region, findings, [&](const Chunk& chunk) { out.push_back(chunk); });
  }
  return out;
}

// Every kind of chunk once or more; returns what must be counted.
std::array<CountBytes, kChunkStates> fill_main(FakeProcess& process) {
  std::array<CountBytes, kChunkStates> expected{};
  const auto expect = [&](ChunkState state, std::uint64_t bytes) {
    expected[static_cast<std::size_t>(state)].add(bytes);
  };
  process.main_heap(0x21000);
  Addr tcache = 0;
  if (process.traits().tcache != TcacheKind::kNone) {
    tcache = process.tcache();
    expect(ChunkState::kInUse, process.next_chunk() - kBrkStart);
  }
  for (int i = 0; i < 5; ++i) {
    process.used(0x40);
    expect(ChunkState::kInUse, 0x40);
    const Addr cached = process.used(0x50);
    if (tcache != 0) process.to_tcache(tcache, cached);
    expect(tcache != 0 ? ChunkState::kTcache : ChunkState::kInUse, 0x50);
  }
  for (int i = 0; i < 3; ++i) {
    const Addr fast = process.used(0x30);
    if (process.traits().fastbins) process.to_fastbin(fast);
    expect(process.traits().fastbins ? ChunkState::kFast : ChunkState::kInUse, 0x30);
  }
  for (const std::uint64_t size : {0x90, 0x200, 0x2010}) {
    process.used(0x20);
    expect(ChunkState::kInUse, 0x20);
    process.freed(size, 1);
    expect(ChunkState::kUnsorted, size);
  }
  for (const std::uint64_t size : {0xa0, 0xa0, 0x3f0}) {
    process.used(0x60);
    expect(ChunkState::kInUse, 0x60);
    process.freed(size, static_cast<unsigned>(size / 16));
    expect(ChunkState::kSmall, size);
  }
  process.used(0x60);
  expect(ChunkState::kInUse, 0x60);
  process.freed(0x1230, 48 + (0x1230 >> 6) > 96 ? 91 + (0x1230 >> 9) : 48 + (0x1230 >> 6));
  expect(ChunkState::kLarge, 0x1230);
  process.used(0x20);
  expect(ChunkState::kInUse, 0x20);
  expect(ChunkState::kTop, kBrkStart + 0x21000 - process.next_chunk());
  process.top();
  return expected;
}

class EveryLayout : public ::testing::TestWithParam<const char*> {};

TEST_P(EveryLayout, CountsEveryKindOfChunk) {
  FakeProcess process(GetParam());
  const auto expected = fill_main(process);
  process.mmapped(0x7c0000000000, 0x40000);
  Answer answer = analyse(process);
  ASSERT_TRUE(answer.search.heap) << answer.search.why_not;
  EXPECT_TRUE(answer.findings.kept().empty()) << answer.codes();
  EXPECT_EQ(answer.heap().located_by, "structure");
  EXPECT_EQ(answer.heap().arenas.at(0).address, kMainArena);
  EXPECT_EQ(answer.heap().par.address, kMallocPar);
  EXPECT_EQ(answer.totals().by_state, expected);
  EXPECT_EQ(all_bytes(answer.totals()), 0x21000u);
  EXPECT_EQ(answer.heap().mmapped_total(), (CountBytes{1, 0x40000}));
  EXPECT_EQ(answer.heap().traits.links, process.traits().links);
  EXPECT_EQ(answer.heap().layout.malloc_state.bins, process.layout().malloc_state.bins);
}

TEST_P(EveryLayout, WalksThreadArenasOfSeveralHeaps) {
  FakeProcess process(GetParam());
  process.main_heap(0x3000);
  process.used(0x100);
  process.top();
  const Addr arena = process.thread_heap(0, 0x5000);
  process.used(0x400);
  process.freed(0x500, 1);
  process.used(0x40);
  process.fencepost();
  process.thread_heap(2, 0x4000, arena);
  process.used(0x1000);
  const Addr top = process.next_chunk();
  process.top();
  process.put(arena + process.layout().malloc_state.top.offset, top);
  Answer answer = analyse(process);
  ASSERT_TRUE(answer.search.heap);
  EXPECT_TRUE(answer.findings.kept().empty()) << answer.codes();
  ASSERT_EQ(answer.heap().arenas.size(), 2u);
  const Arena& thread = answer.heap().arenas[1];
  EXPECT_EQ(thread.address, arena);
  EXPECT_EQ(thread.heaps.size(), 2u);
  EXPECT_EQ(thread.system_bytes, 0x9000u);
  EXPECT_EQ(thread.top, top);
  EXPECT_EQ(answer.count(ChunkState::kInUse, 1).count, 4u);
  EXPECT_EQ(answer.count(ChunkState::kUnsorted, 1), (CountBytes{1, 0x500}));
  EXPECT_EQ(all_bytes(answer.totals(1)), 0x9000u);
}

std::vector<const char*> versions() {
  std::vector<const char*> out;
  for (const GlibcTable& table : glibc_tables()) out.push_back(table.version);
  return out;
}

INSTANTIATE_TEST_SUITE_P(Glibc, EveryLayout, ::testing::ValuesIn(versions()), [](const auto& parameter) {
  std::string name = parameter.param;
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
});

TEST(GlibcHeap, NamesTheThreadsTcache) {
  FakeProcess process;
  process.main_heap(0x3000);
  const Addr tcache = process.tcache();
  for (int i = 0; i < 7; ++i) process.to_tcache(tcache, process.used(0x20));
  process.to_tcache(tcache, process.used(0x410));
  process.top();
  process.thread(0);  // one that has none
  Answer answer = analyse(process);
  ASSERT_EQ(answer.heap().tcaches.size(), 1u);
  EXPECT_EQ(answer.heap().tcaches[0].address, tcache);
  EXPECT_EQ(answer.heap().tcaches[0].tid, 100);
  EXPECT_EQ(answer.heap().tcaches[0].chunks, (CountBytes{8, 7 * 0x20 + 0x410}));
  EXPECT_TRUE(answer.findings.kept().empty()) << answer.codes();
}

TEST(GlibcHeap, FindsTheTcacheWithoutThreads) {
  FakeProcess process;
  process.main_heap(0x3000);
  const Addr tcache = process.tcache();
  process.to_tcache(tcache, process.used(0x20));
  process.top();
  Snapshot snapshot = process.snapshot();
  snapshot.threads.clear();
  Findings findings;
  const HeapSearch search = find_heap(snapshot, findings);
  ASSERT_EQ(search.heap->tcaches.size(), 1u);
  EXPECT_EQ(search.heap->tcaches[0].address, tcache);
  EXPECT_EQ(search.heap->tcaches[0].tid, 0);
}

TEST(GlibcHeap, FindsTcachesWhoseThreadsWereWrittenAsZeros) {
  FakeProcess process("2.43");
  process.main_heap(0x4000);
  const Addr first = process.tcache();
  process.used(0x200);
  process.used(0x300);  // as large as a tcache, and none
  const Addr second = process.tcache();
  for (int i = 0; i < 3; ++i) process.to_tcache(second, process.used(0x20));
  process.top();
  Snapshot snapshot = process.snapshot();
  process.fill(snapshot.threads.at(1).thread_pointer - 0x1000, 0x2000, 0);
  Findings findings;
  const HeapSearch search = find_heap(snapshot, findings);
  ASSERT_EQ(search.heap->tcaches.size(), 2u);
  EXPECT_EQ(search.heap->tcaches[0].address, first);
  EXPECT_EQ(search.heap->tcaches[1].address, second);
  EXPECT_EQ(search.heap->tcaches[1].chunks, (CountBytes{3, 0x60}));
  EXPECT_EQ(findings.count("thread-memory-missing"), 1u);
}

TEST(GlibcHeap, SeesThatLinksAreNotEncoded) {
  FakeProcess process;  // a 2.36 layout whose links are plain
  process.main_heap(0x3000);
  const Addr tcache = process.tcache();
  const Addr first = process.used(0x20);
  const Addr second = process.used(0x20);
  process.top();
  process.to_tcache(tcache, first);
  process.to_tcache(tcache, second);
  process.put(first + 16, 0);
  process.put(second + 16, first + 16);
  Answer answer = analyse(process);
  EXPECT_EQ(answer.heap().traits.links, LinkEncoding::kPlain);
  EXPECT_EQ(answer.count(ChunkState::kTcache), (CountBytes{2, 0x40}));
}

TEST(GlibcHeap, AProgramThatNeverCalledMalloc) {
  FakeProcess process;
  const auto& state = process.layout().malloc_state;
  process.fill(kMainArena, state.size_bytes, 0);
  process.put(kMainArena + state.next.offset, kMainArena);
  process.put(kMainArena + state.attached_threads.offset, 1);
  process.put(kMallocPar + process.layout().malloc_par.sbrk_base.offset, 0);
  Answer answer = analyse(process);
  ASSERT_TRUE(answer.search.heap);
  EXPECT_EQ(answer.heap().arenas.at(0).address, kMainArena);
  EXPECT_TRUE(answer.heap().regions.empty());
  EXPECT_TRUE(answer.findings.kept().empty()) << answer.codes();
}

TEST(GlibcHeap, NamesAReplacement) {
  FakeProcess process;
  process.fill(kMainArena, process.layout().malloc_state.size_bytes, 0);
  Snapshot snapshot = process.snapshot();
  Module module;
  module.path = "/usr/lib/libjemalloc.so.2";
  snapshot.modules.push_back(module);
  Findings findings;
  const HeapSearch search = find_heap(snapshot, findings);
  EXPECT_FALSE(search.heap);
  EXPECT_EQ(search.other_allocator, "jemalloc");
  EXPECT_NE(search.why_not.find("jemalloc"), std::string::npos);
}

TEST(GlibcHeap, SmallHeapEndsInALargerFencepost) {
  FakeProcess process;
  process.main_heap(0x3000);
  process.top();
  const Addr arena = process.thread_heap(0, 0x2000);
  // Less than MINSIZE was left of top: {0x21, data, 0x1}.
  process.used(kThreadHeap + 0x2000 - 48 - process.next_chunk());
  process.put(process.next_chunk() + 8, 0x20 | kPrevInUse);
  process.put(process.next_chunk() + 0x28, kPrevInUse);
  process.thread_heap(1, 0x2000, arena);
  process.top();
  Answer answer = analyse(process);
  EXPECT_TRUE(answer.findings.kept().empty()) << answer.codes();
  EXPECT_EQ(answer.count(ChunkState::kInUse, 1).count, 1u);
  EXPECT_EQ(all_bytes(answer.totals(1)), 0x4000u);
}

TEST(GlibcHeap, MmappedChunksInMergedMappings) {
  FakeProcess process;
  process.main_heap(0x3000);
  process.top();
  const Addr base = 0x7c0000000000;
  process.add_memory(base, 0x100000, "");                  // somebody else's, at the start
  process.mmapped(base + 0x100000, 0x41000);               // follows at once
  process.mmapped(base + 0x141000, 0x50000, 0x2000 - 16);  // memalign(0x2000)
  process.put(base + 0x2008, 0x3000 | kIsMmapped);         // looks like one, in a range that is known to be no chunk
  Answer answer = analyse(process, {{base, base + 0x100000}});
  EXPECT_EQ(answer.heap().mmapped_total(), (CountBytes{2, 0x91000}));
  EXPECT_EQ(answer.heap().mmapped.at(1).address, base + 0x141000 + 0x2000 - 16);
  EXPECT_TRUE(answer.findings.kept().empty()) << answer.codes();
}

TEST(GlibcHeap, MissingMmappedChunkIsSaid) {
  FakeProcess process;
  process.main_heap(0x3000);
  process.top();
  process.mmapped(0x7c0000000000, 0x40000);
  process.put(0x7c0000000008, 0x41414141);
  Answer answer = analyse(process);
  EXPECT_NE(answer.find("mmapped-mismatch"), nullptr);
}

TEST(GlibcHeap, TrimForecastIsPageExact) {
  FakeProcess process;
  process.main_heap(0x40000);
  process.used(0x1000);
  process.freed(0x5000, 1);  // 0x1000 to 0x6000: whole pages from 0x2000 on, behind its header
  process.used(0x20);
  process.to_fastbin(process.used(0x20));
  process.freed(0x1fe0, 1);  // with the fast chunk before it 0x6020 to 0x8020
  process.used(0x20);
  process.freed(0x1000, 1);  // holds no whole page
  process.used(0x20);
  process.top();  // 0x9060 to 0x40000
  Answer answer = analyse(process);
  EXPECT_EQ(answer.totals().trim_chunks_bytes, 0x4000u + 0x1000u);
  EXPECT_EQ(answer.totals().trim_top_bytes, 0x36000u);
}

// A main heap of many small chunks, all in use, of sizes that differ.
struct Damaged {
  FakeProcess process;
  std::vector<Addr> chunks;

  Damaged() {
    process.main_heap(0x21000);
    std::mt19937_64 random(7);
    while (process.next_chunk() < kBrkStart + 0x1f000) {
      chunks.push_back(process.used(0x20 + 16 * (random() % 20)));
      process.fill(chunks.back() + 16, 16, 0xee);
    }
    process.top();
  }
  std::uint64_t size(std::size_t i) { return chunks[i + 1] - chunks[i]; }
};

TEST(GlibcHeapDamage, AnAbsurdSizeCostsOneChunk) {
  Damaged damaged;
  damaged.process.put(damaged.chunks[100] + 8, 0x4141414141414141);
  Answer answer = analyse(damaged.process);
  ASSERT_NE(answer.find("chunk-bad-size"), nullptr);
  EXPECT_EQ(answer.find("chunk-bad-size")->address, damaged.chunks[100]);
  EXPECT_EQ(answer.totals().lost_bytes, damaged.size(100));
  EXPECT_EQ(answer.count(ChunkState::kInUse).count, damaged.chunks.size() - 1);
  EXPECT_EQ(all_bytes(answer.totals()), 0x21000u);
}

TEST(GlibcHeapDamage, APlausibleWrongSizeCostsOneChunk) {
  Damaged damaged;
  for (const std::uint64_t wrong : {0x8011u, 0x1001u}) {
    damaged.process.put(damaged.chunks[100] + 8, damaged.size(100) + wrong);
    Answer answer = analyse(damaged.process);
    if (answer.find("chunk-bad-size") == nullptr) continue;  // it led to a chunk by chance
    EXPECT_EQ(answer.find("chunk-bad-size")->address, damaged.chunks[100]);
    EXPECT_EQ(answer.totals().lost_bytes, damaged.size(100));
    EXPECT_EQ(all_bytes(answer.totals()), 0x21000u);
  }
}

TEST(GlibcHeapDamage, AZeroedPageCostsItsChunks) {
  Damaged damaged;
  damaged.process.fill(kBrkStart + 0x8000, 0x1000, 0);
  Answer answer = analyse(damaged.process);
  ASSERT_NE(answer.find("chunk-bad-size"), nullptr);
  const Addr first = *std::lower_bound(damaged.chunks.begin(), damaged.chunks.end(), kBrkStart + 0x8000);
  const Addr next = *std::lower_bound(damaged.chunks.begin(), damaged.chunks.end(), kBrkStart + 0x9000);
  EXPECT_EQ(answer.find("chunk-bad-size")->address, first);
  EXPECT_EQ(answer.totals().lost_bytes, next - first);
  EXPECT_EQ(all_bytes(answer.totals()), 0x21000u);
}

TEST(GlibcHeapDamage, AFirstChunkThatIsNone) {
  Damaged damaged;
  damaged.process.put(kBrkStart + 8, 3);
  Answer answer = analyse(damaged.process);
  ASSERT_NE(answer.find("chunk-bad-size"), nullptr);
  EXPECT_EQ(answer.find("chunk-bad-size")->address, kBrkStart);
  EXPECT_EQ(answer.totals().lost_bytes, damaged.size(0));
}

TEST(GlibcHeapDamage, AHoleInTheCore) {
  Damaged damaged;
  Snapshot snapshot = damaged.process.snapshot();
  std::vector<Segment> segments(snapshot.space.segments().begin(), snapshot.space.segments().end());
  std::vector<Segment> cut;
  for (const Segment& segment : segments) {
    if (segment.start != kBrkStart) {
      cut.push_back(segment);
      continue;
    }
    cut.push_back({segment.start, segment.start + 0x8000, segment.bytes, ByteState::kPresent, false});
    cut.push_back({segment.start + 0x8000, segment.start + 0xa000, nullptr, ByteState::kNotDumped, false});
    cut.push_back({segment.start + 0xa000, segment.end, segment.bytes + 0xa000, ByteState::kPresent, false});
  }
  snapshot.space.assign(std::move(cut));
  Answer answer;
  answer.search = find_heap(snapshot, answer.findings);
  ASSERT_TRUE(answer.search.heap);
  count_chunks(snapshot, answer.heap(), answer.findings);
  EXPECT_NE(answer.find("heap-not-dumped"), nullptr);
  EXPECT_LT(answer.totals().lost_bytes, 0x2400u);
  EXPECT_GT(answer.totals().lost_bytes, 0x1c00u);
  EXPECT_EQ(all_bytes(answer.totals()), 0x21000u);
}

TEST(GlibcHeapDamage, ListsThatRunIntoThemselves) {
  FakeProcess process;
  process.main_heap(0x3000);
  const Addr tcache = process.tcache();
  const Addr cached = process.used(0x20);
  const Addr fast = process.used(0x30);
  process.to_tcache(tcache, cached);
  process.to_fastbin(fast);
  process.top();
  process.put(cached + 16, process.stored(cached + 16, cached + 16));
  process.put(fast + 16, process.stored(fast + 16, fast));
  Answer answer = analyse(process);
  ASSERT_NE(answer.find("tcache-loop"), nullptr) << answer.codes();
  EXPECT_EQ(answer.find("tcache-loop")->address, tcache);
  EXPECT_NE(answer.find("fastbin-loop"), nullptr);
  EXPECT_EQ(answer.count(ChunkState::kTcache), (CountBytes{1, 0x20}));
  EXPECT_EQ(answer.count(ChunkState::kFast), (CountBytes{1, 0x30}));
}

TEST(GlibcHeapDamage, ListsThatLeadOutside) {
  FakeProcess process;
  process.main_heap(0x3000);
  const Addr tcache = process.tcache();
  const Addr cached = process.used(0x20);
  const Addr other = process.used(0x20);
  const Addr fast = process.used(0x30);
  process.to_tcache(tcache, other);
  process.to_tcache(tcache, cached);
  process.to_fastbin(fast);
  process.top();
  process.put(cached + 16, process.stored(cached + 16, 0x1230));
  process.put(fast + 16, process.stored(fast + 16, 0x7f1234567890));
  Answer answer = analyse(process);
  EXPECT_NE(answer.find("tcache-bad-link"), nullptr) << answer.codes();
  EXPECT_NE(answer.find("fastbin-bad-link"), nullptr) << answer.codes();
}

TEST(GlibcHeapDamage, ATcacheWithABadHeadIsStillFound) {
  FakeProcess process;
  process.main_heap(0x3000);
  process.used(0x40);  // so that the tcache is not the first chunk
  const Addr tcache = process.tcache();
  process.to_tcache(tcache, process.used(0x20));
  process.to_tcache(tcache, process.used(0x30));
  process.top();
  process.put(tcache + process.layout().tcache_perthread_struct.entries.offset, 0x4141414141414141);
  Answer answer = analyse(process);
  ASSERT_NE(answer.find("tcache-bad-link"), nullptr) << answer.codes();
  EXPECT_EQ(answer.find("tcache-bad-link")->address, tcache);
  EXPECT_EQ(answer.count(ChunkState::kTcache), (CountBytes{1, 0x30}));
}

TEST(GlibcHeapDamage, BinsTopRingAndHeapInfo) {
  {
    FakeProcess process;
    fill_main(process);
    const Addr head = kMainArena + process.layout().malloc_state.bins.offset + 16 * (0xa0 / 16 - 1) - 16;
    process.put(process.get(head + 16) + 24, 0x1234);
    Answer answer = analyse(process);
    EXPECT_NE(answer.find("bin-list-broken"), nullptr) << answer.codes();
    EXPECT_NE(answer.find("main-arena-damaged"), nullptr) << answer.codes();
  }
  {
    FakeProcess process;
    fill_main(process);
    const Addr top = process.next_chunk();
    process.put(top + 8, process.get(top + 8) + 0x1000);
    Answer answer = analyse(process);
    EXPECT_NE(answer.find("top-out-of-heap"), nullptr) << answer.codes();
    EXPECT_EQ(all_bytes(answer.totals()), 0x21000u);
  }
  {
    FakeProcess process;
    fill_main(process);
    const Addr arena = process.thread_heap(0, 0x5000);
    process.used(0x400);
    process.top();
    process.put(arena + process.layout().malloc_state.next.offset, 0x1230);
    Answer answer = analyse(process);
    ASSERT_NE(answer.find("arena-ring-broken"), nullptr) << answer.codes();
    EXPECT_EQ(answer.find("arena-ring-broken")->address, arena);
    EXPECT_EQ(answer.heap().arenas.size(), 2u);
  }
  {
    FakeProcess process;
    fill_main(process);
    const Addr arena = process.thread_heap(0, 0x5000);
    process.used(0x400);
    process.fencepost();
    process.thread_heap(3, 0x4000, arena);
    process.used(0x1000);
    process.top();
    process.put(kThreadHeap + 3 * (std::uint64_t{64} << 20) + process.layout()._heap_info.prev.offset, 0x99);
    Answer answer = analyse(process);
    EXPECT_NE(answer.find("heap-chain-broken"), nullptr) << answer.codes();
    EXPECT_EQ(answer.heap().arenas.at(1).heaps.size(), 2u);
    EXPECT_EQ(all_bytes(answer.totals(1)), 0x9000u);
  }
}

TEST(GlibcHeapDamage, AChunkOnAListIsMarkedInUse) {
  FakeProcess process;
  fill_main(process);
  const std::uint64_t unsorted = kMainArena + process.layout().malloc_state.bins.offset - 16;
  const Addr chunk = process.get(unsorted + 16);
  const Addr next = chunk + (process.get(chunk + 8) & ~std::uint64_t{7});
  process.put(next + 8, process.get(next + 8) | kPrevInUse);
  Answer answer = analyse(process);
  ASSERT_NE(answer.find("walk-list-disagree"), nullptr) << answer.codes();
  EXPECT_EQ(answer.find("walk-list-disagree")->address, chunk);
}

// Whatever is overwritten, it ends, and the bytes of each arena that has regions still add up.
TEST(GlibcHeapDamage, RandomDamageNeverHangs) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 300; ++round) {
    FakeProcess process;
    fill_main(process);
    const Addr arena = process.thread_heap(0, 0x5000);
    process.used(0x400);
    process.freed(0x210, 1);
    process.used(0x40);
    process.fencepost();
    process.thread_heap(3, 0x4000, arena);
    process.tcache();
    process.used(0x1000);
    process.top();
    process.mmapped(0x7c0000000000, 0x40000);
    const std::array<AddrRange, 4> places{AddrRange{kMainArena, kMainArena + process.layout().malloc_state.size_bytes},
                                          AddrRange{kMallocPar, kMallocPar + 136},
                                          AddrRange{kBrkStart, kBrkStart + 0x3000},
                                          AddrRange{kThreadHeap, kThreadHeap + 0x1000}};
    const int hits = 1 + static_cast<int>(random() % 8);
    for (int hit = 0; hit < hits; ++hit) {
      const AddrRange place = places[random() % places.size()];
      const Addr at = align_down(place.start + random() % (place.size_bytes() - 8), 8);
      const std::uint64_t old = process.get(at);
      const std::array<std::uint64_t, 6> values{random(), 0,       ~std::uint64_t{0},
                                                old + 16, old ^ 1, kBrkStart + random() % 0x3000};
      process.put(at, values[random() % values.size()]);
    }
    Answer answer = analyse(process);
    if (!answer.search.heap) continue;
    std::vector<std::uint64_t> bytes(answer.heap().arenas.size());
    for (const Region& region : answer.heap().regions) bytes[region.arena] += region.mapped().size_bytes();
    for (std::size_t i = 0; i < bytes.size(); ++i) EXPECT_EQ(all_bytes(answer.totals(i)), bytes[i]) << round;
    EXPECT_EQ(answer.find("region-unbalanced"), nullptr) << round << answer.codes();
  }
}

TEST(GlibcHeap, VisitsChunksInAddressOrder) {
  FakeProcess process;
  fill_main(process);
  Answer answer = analyse(process);
  Addr at = kBrkStart;
  for (const Chunk& chunk : chunks_of(process, answer.heap())) {
    EXPECT_EQ(chunk.address, at);
    at += chunk.size_bytes;
  }
  EXPECT_EQ(at, kBrkStart + 0x21000);
}

TEST(GlibcTraits, BinIndex) {
  EXPECT_EQ(bin_index(32), 2u);
  EXPECT_EQ(bin_index(1008), 63u);
  EXPECT_EQ(bin_index(1024), 64u);
  EXPECT_EQ(bin_index(3072 + 63), 96u);
  EXPECT_EQ(bin_index(3136), 97u);
  EXPECT_EQ(bin_index(10752), 112u);
  EXPECT_EQ(bin_index(1u << 20), 126u);
}

}  // namespace
}  // namespace heapcore
