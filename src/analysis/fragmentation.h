// The fragmentation map: each arena of CPython's allocator and each region of malloc as a strip of cells, with how much
// of a cell is live; and the figures that follow from it.
//
// An *arena* here is what an allocator gets and gives back in one piece: an arena of obmalloc, a segment of mimalloc, a
// region of malloc (heap.h: what sbrk gave, or one heap of a thread arena). mmapped chunks are no arenas: each is one
// block, and goes back when that is freed.
//
// bytes = live_bytes + free_bytes + overhead_bytes, of each arena and of the totals. Live are the blocks in use, whole;
// free is what the allocator would hand out again, memory that it never handed out included; overhead is headers,
// tails too small for a block, fenceposts, and what is damaged or not in the snapshot.
//
// Invariant: cells.size() * cell_bytes >= bytes; all cells together are at most kMaxMapCells.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "analysis/process.h"
#include "support/counts.h"
#include "support/finding.h"
#include "support/progress.h"

namespace heapcore {

enum class MapAllocator : std::uint8_t { kObmalloc, kMimalloc, kMalloc };
inline constexpr std::size_t kMapAllocators = 3;

// What a cell says: 0 to kFull for the share of its bytes that is live, where at least one is 1 or more; or why nothing
// of it is.
namespace map_cell {
inline constexpr std::uint8_t kFree = 0;
inline constexpr std::uint8_t kFull = 250;
inline constexpr std::uint8_t kNeverUsed = 251;  // obmalloc: never carved into a pool
inline constexpr std::uint8_t kTop = 252;        // malloc: the free end of an arena
inline constexpr std::uint8_t kNotDumped = 253;
}  // namespace map_cell

inline constexpr std::size_t kMaxMapCells = std::size_t{1} << 20;
inline constexpr std::size_t kMaxCellsPerArena = 4096;
inline constexpr std::size_t kOccupancyClasses = 10;

struct MapArena {
  Addr address = 0;
  MapAllocator allocator = MapAllocator::kObmalloc;
  std::uint64_t bytes = 0;
  std::uint64_t live_bytes = 0;
  std::uint64_t free_bytes = 0;
  std::uint64_t cell_bytes = 0;  // pages, a power of two of them
  std::vector<std::uint8_t> cells;

  std::uint64_t overhead_bytes() const { return bytes - live_bytes - free_bytes; }
  double live_share() const { return bytes == 0 ? 0 : static_cast<double>(live_bytes) / static_cast<double>(bytes); }
};

struct MapTotals {
  MapAllocator allocator = MapAllocator::kObmalloc;
  std::uint64_t arenas = 0;
  std::uint64_t bytes = 0;
  std::uint64_t live_bytes = 0;
  std::uint64_t free_bytes = 0;
  CountBytes free_arenas;  // in which nothing is live
  CountBytes mmapped;      // malloc: chunks with a mapping of their own, not counted above
  std::array<std::uint64_t, kOccupancyClasses> occupancy{};  // arenas by tenths of live share; all live is the last

  std::uint64_t overhead_bytes() const { return bytes - live_bytes - free_bytes; }
};

// What emptying the sparsest arenas would take and give.
struct MapEmptying {
  MapAllocator allocator = MapAllocator::kObmalloc;
  unsigned percent = 0;  // of the allocator's arenas, rounded up to whole ones
  std::uint64_t arenas = 0;
  std::uint64_t freed_bytes = 0;
  std::uint64_t moved_bytes = 0;  // live in them
};

struct FragmentationMap {
  std::uint64_t page_bytes = 4096;
  std::vector<MapArena> arenas;       // by address
  std::vector<MapTotals> allocators;  // only those that have arenas or chunks
  std::vector<MapEmptying> emptying;  // 10, 25 and 50 % of each
};

// The pass "walk". Needs no Python: then only malloc's regions are there. Damage that it meets goes to `findings`; the
// census reports the same.
FragmentationMap map_memory(const Process& process, Progress& progress, Findings& findings);

// Of all arenas of one allocator, the sparsest first; of equal ones the lowest address. Indices into map.arenas.
std::vector<std::uint32_t> sparsest_arenas(const FragmentationMap& map, MapAllocator allocator);
// Of all allocators.
std::vector<std::uint32_t> sparsest_arenas(const FragmentationMap& map);

// Fills allocators and emptying from arenas; for map_memory() and its tests.
void summarise_map(FragmentationMap& map);

// The cells of one arena as they are filled.
class MapStrip {
 public:
  // REQUIRES: cell_bytes is a power of two, range.start a multiple of the page.
  MapStrip(AddrRange range, std::uint64_t cell_bytes);

  // A live block; what of it lies outside the range is cut off.
  void add_live(AddrRange block);
  // Cells of which nothing is live, and at least half lies in `part`, are `what` from now on. After all add_live().
  void mark(AddrRange part, std::uint8_t what);

  std::vector<std::uint8_t> cells() &&;

 private:
  AddrRange range_;
  unsigned cell_bits_;
  std::vector<std::uint64_t> live_bytes_;
  std::vector<std::uint8_t> marks_;  // kFree where there is none
};

}  // namespace heapcore
