// Strips of cells, what follows from arenas, and which pages of malloc's stay: against naive counts and by hand.
#include "analysis/fragmentation.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "analysis/pinned_pages.h"
#include "report/space_answers.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr Addr kBase = 0x7f0000000000;

TEST(MapStrip, CellsOfRandomBlocksAreTheBytesInThemRoundedUp) {
  std::mt19937 random(7);
  for (const std::uint64_t cell_bytes : {kPage, 4 * kPage}) {
    const std::uint64_t size = 13 * kPage + 512;
    std::vector<bool> live(size);
    MapStrip strip({kBase, kBase + size}, cell_bytes);
    for (std::uint64_t at = 0; at < size;) {
      const std::uint64_t bytes = std::uniform_int_distribution<std::uint64_t>(16, 6000)(random);
      if (random() % 3 == 0) {
        strip.add_live({kBase + at, kBase + at + bytes});  // the last may reach beyond the end
        for (std::uint64_t i = at; i < std::min(size, at + bytes); ++i) live[i] = true;
      }
      at += bytes;
    }
    const std::vector<std::uint8_t> cells = std::move(strip).cells();
    ASSERT_EQ(cells.size(), (size + cell_bytes - 1) / cell_bytes);
    for (std::size_t cell = 0; cell < cells.size(); ++cell) {
      std::uint64_t count = 0;
      const std::uint64_t end = std::min(size, (cell + 1) * cell_bytes);
      for (std::uint64_t i = cell * cell_bytes; i < end; ++i) count += live[i] ? 1 : 0;
      const std::uint64_t of = end - cell * cell_bytes;
      EXPECT_EQ(cells[cell], (count * map_cell::kFull + of - 1) / of) << cell;
    }
  }
}

TEST(MapStrip, OneLiveByteIsNotNothing) {
  MapStrip strip({kBase, kBase + 256 * kPage}, 256 * kPage);
  strip.add_live({kBase + 5, kBase + 6});
  strip.mark({kBase, kBase + 256 * kPage}, map_cell::kTop);
  EXPECT_EQ(std::move(strip).cells(), std::vector<std::uint8_t>{1});
}

TEST(MapStrip, MarksWhatIsNotLive) {
  MapStrip strip({kBase, kBase + 4 * kPage}, kPage);
  strip.add_live({kBase + kPage, kBase + 2 * kPage});
  strip.mark({kBase, kBase + 3 * kPage + 100}, map_cell::kNeverUsed);  // of the last page less than half
  strip.mark({kBase - kPage, kBase - 1}, map_cell::kTop);              // outside
  EXPECT_EQ(std::move(strip).cells(),
            (std::vector<std::uint8_t>{map_cell::kNeverUsed, map_cell::kFull, map_cell::kNeverUsed, map_cell::kFree}));
}

FragmentationMap map_of(std::initializer_list<std::pair<std::uint64_t, std::uint64_t>> arenas) {
  FragmentationMap map;
  Addr at = kBase;
  for (const auto& [bytes, live] : arenas) {
    MapArena arena;
    arena.address = at;
    arena.bytes = bytes;
    arena.live_bytes = live;
    arena.free_bytes = bytes - live;
    arena.cell_bytes = kPage;
    arena.cells.assign(bytes / kPage, live == 0 ? map_cell::kFree : 25);
    map.arenas.push_back(arena);
    at += bytes;
  }
  summarise_map(map);
  return map;
}

TEST(FragmentationMap, SumsUpArenasAndWhatEmptyingThemGives) {
  const FragmentationMap map =
      map_of({{1 << 20, 1 << 20}, {1 << 20, 0}, {1 << 18, 100}, {1 << 20, 100000}, {1 << 20, 524288}});
  ASSERT_EQ(map.allocators.size(), 1U);
  const MapTotals& totals = map.allocators[0];
  EXPECT_EQ(totals.arenas, 5U);
  EXPECT_EQ(totals.bytes, (4U << 20) + (1U << 18));
  EXPECT_EQ(totals.live_bytes, (1U << 20) + 100 + 100000 + 524288);
  EXPECT_EQ(totals.overhead_bytes(), 0U);
  EXPECT_EQ(totals.free_arenas, (CountBytes{1, 1 << 20}));
  EXPECT_EQ(totals.occupancy, (std::array<std::uint64_t, 10>{3, 0, 0, 0, 0, 1, 0, 0, 0, 1}));
  ASSERT_EQ(map.emptying.size(), 3U);
  EXPECT_EQ(map.emptying[0].arenas, 1U);  // 10 % of 5, rounded up
  EXPECT_EQ(map.emptying[0].freed_bytes, 1U << 20);
  EXPECT_EQ(map.emptying[0].moved_bytes, 0U);
  EXPECT_EQ(map.emptying[2].arenas, 3U);
  EXPECT_EQ(map.emptying[2].freed_bytes, (2U << 20) + (1U << 18));
  EXPECT_EQ(map.emptying[2].moved_bytes, 100100U);
  EXPECT_EQ(sparsest_arenas(map), (std::vector<std::uint32_t>{1, 2, 3, 4, 0}));
}

TEST(FragmentationMap, SaysWhatItLeavesOut) {
  const FragmentationMap map = map_of({{1 << 20, 1 << 20}, {1 << 20, 0}, {1 << 20, 1 << 19}});
  TextStyle style;
  style.limit = 1;
  const std::string text = map_text(map, {}, style);
  EXPECT_NE(text.find("2 arenas more: 2.00 MiB, 75.0 % of it live"), std::string::npos) << text;
  EXPECT_EQ(map_json(map, {}, 1)["arenas"].size(), 1U);
  EXPECT_EQ(map_json(map, {}, 0)["arenas"][0]["pages"], std::string(256, '.'));
  EXPECT_EQ(map_json(map, {MapOrder::kAddress, 80}, 0)["arenas"][0]["pages"], std::string(256, '1'));
}

TEST(FragmentationMap, StripsFitTheTerminal) {
  const FragmentationMap map = map_of({{64 << 20, 1 << 19}, {1 << 18, 1 << 10}});
  for (const std::size_t width : {80U, 100U, 200U}) {
    const std::string text = map_text(map, {MapOrder::kLive, width}, {});
    const std::string strips = text.substr(text.find("Arenas, the sparsest first"));
    for (std::size_t at = 0; at < strips.size();) {
      const std::size_t end = strips.find('\n', at);
      std::size_t columns = 0;
      for (std::size_t i = at; i < end; ++i) columns += (strips[i] & 0xc0) != 0x80 ? 1 : 0;
      EXPECT_LE(columns, width) << strips;
      at = end + 1;
    }
  }
}

// Chunks in address order, from sizes and states.
std::vector<PinnedPage> pinned(std::initializer_list<std::pair<std::uint64_t, ChunkState>> chunks,
                               unsigned below = 25) {
  std::uint64_t total = 0;
  for (const auto& [size, state] : chunks) total += size;
  PinnedPages pages({kBase, kBase + total}, kPage, 48, below);
  Addr at = kBase;
  for (const auto& [size, state] : chunks) {
    pages.see({at, size, state});
    at += size;
  }
  return pages.finish();
}

TEST(PinnedPages, PageOfOneSmallChunkIsKept) {
  // One live chunk in the third of eight pages: what is before and behind it in other pages goes back.
  const auto pages = pinned(
      {{2 * kPage + 1000, ChunkState::kLarge}, {200, ChunkState::kInUse}, {6 * kPage - 1200, ChunkState::kLarge}});
  ASSERT_EQ(pages.size(), 1U);
  EXPECT_EQ(pages[0].range, (AddrRange{kBase + 2 * kPage, kBase + 3 * kPage}));
  EXPECT_EQ(pages[0].live_bytes, 200U);
  EXPECT_EQ(pages[0].kept_bytes(), kPage - 200);
}

TEST(PinnedPages, ChunkOverTwoPagesKeepsBoth) {
  const auto pages =
      pinned({{2 * kPage - 100, ChunkState::kLarge}, {200, ChunkState::kInUse}, {2 * kPage - 100, ChunkState::kLarge}});
  ASSERT_EQ(pages.size(), 2U);
  EXPECT_EQ(pages[0].range, (AddrRange{kBase + kPage, kBase + 2 * kPage}));
  EXPECT_EQ(pages[1].range, (AddrRange{kBase + 2 * kPage, kBase + 3 * kPage}));
  EXPECT_EQ(pages[0].live_bytes, 100U);
  EXPECT_EQ(pages[1].live_bytes, 100U);
}

TEST(PinnedPages, LinksOfAFreeChunkKeepTheirPageForWhoeverLivesBefore) {
  // The live chunk ends with its page; the free chunk's links lie in the next.
  const auto pages =
      pinned({{kPage - 200, ChunkState::kLarge}, {200, ChunkState::kInUse}, {3 * kPage, ChunkState::kLarge}});
  ASSERT_EQ(pages.size(), 1U);
  EXPECT_EQ(pages[0].range, (AddrRange{kBase, kBase + 2 * kPage}));
}

TEST(PinnedPages, WellUsedPagesAreNotPinned) {
  EXPECT_TRUE(pinned({{1500, ChunkState::kInUse}, {2 * kPage - 1500, ChunkState::kLarge}}).empty());
  EXPECT_EQ(pinned({{1500, ChunkState::kInUse}, {2 * kPage - 1500, ChunkState::kLarge}}, 50).size(), 1U);
}

TEST(PinnedPages, WhatOnlyListsHoldIsNotForLiveObjectsToFree) {
  EXPECT_TRUE(
      pinned({{4 * kPage, ChunkState::kTcache}, {4 * kPage, ChunkState::kFast}, {kPage, ChunkState::kTop}}).empty());
}

}  // namespace
}  // namespace heapcore
