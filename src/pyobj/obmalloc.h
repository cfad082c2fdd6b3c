// CPython's small-object allocator: arenas of pools of equal blocks (Objects/obmalloc.c).
//
//   arena (arena_bytes, aligned anyhow)            pool (pool_bytes, aligned to its size)
//   | pool | pool | ... | never carved     |       | pool_header | block | block | ... | never carved | tail |
//
// A pool whose ref.count is 0 is free; pools at or above arena_object.pool_address were never carved. In a used pool, a
// block below nextoffset is in use unless it is on the list that starts at freeblock. Block size = POOL_SIZE -
// maxnextoffset, which holds for every version and alignment.
//
// Invariant of each walk: work is bounded by the pool's own size; a list that leaves its pool or meets itself is a
// finding, and the blocks on it that were read count as free.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "coreparse/address_space.h"
#include "pyobj/runtime.h"
#include "support/finding.h"

namespace heapcore {

// One arena_object in use.
struct PyArena {
  Addr address = 0;
  Addr first_pool = 0;      // aligned to pool_bytes
  Addr carved_end = 0;      // arena_object.pool_address: pools at or above it were never carved
  std::uint32_t index = 0;  // in the table
  std::uint32_t nfreepools = 0;
  std::uint32_t ntotalpools = 0;
};

struct PoolHeader {
  Addr address = 0;
  std::uint32_t blocks_in_use = 0;  // ref.count
  Addr freeblock = 0;
  std::uint32_t arenaindex = 0;
  std::uint32_t nextoffset = 0;   // of the first block never carved
  std::uint32_t block_bytes = 0;  // 0 in a free pool that never had a class
  std::uint32_t first_block = 0;  // offset of block 0: the header's size
};

// At most this many blocks fit into a pool of any version: (16 KiB - 48) / 8, rounded up to whole words.
inline constexpr std::size_t kMaxBlocksPerPool = 2048;

// Which blocks of a pool are free; bit i is block i.
struct FreeBlocks {
  std::array<std::uint64_t, kMaxBlocksPerPool / 64> bits{};
  std::uint32_t count = 0;

  bool test(std::uint32_t block) const { return (bits[block / 64] >> (block % 64) & 1) != 0; }
};

// Is this really obmalloc's table? At least one arena is in use, and every one that is has pools that carry its index.
bool verify_arena_table(Reader& reader, const PyTraits& traits, const ArenaTable& table);

// How many entries from `address` on look like arena_objects; 0 if this is no such array.
std::uint32_t plausible_arena_count(Reader& reader, const PyTraits& traits, Addr address);

// The arenas in use, by address. Damaged entries are findings and left out.
std::vector<PyArena> read_arenas(Reader& reader, const PyTraits& traits, const ArenaTable& table, Findings& findings);

// Those of all of the runtime's tables, by address.
std::vector<PyArena> read_arenas(Reader& reader, const PyRuntime& runtime, Findings& findings);

// The header of the pool at `bytes` (one whole pool). False, with a finding, if it cannot be one of that arena's.
bool read_pool(std::span<const std::byte> bytes, Addr address, const PyArena& arena, const PyTraits& traits,
               PoolHeader& pool, Findings& findings);

// For a pool whose bytes are not there at all.
void report_missing_pool(Addr address, Findings& findings);

// Follows the pool's free list.
void read_free_blocks(std::span<const std::byte> bytes, const PoolHeader& pool, FreeBlocks& free, Findings& findings);

// What the allocator itself holds, without looking at any object.
struct PoolClass {
  std::uint64_t block_bytes = 0;
  std::uint64_t pools = 0;
  std::uint64_t blocks_in_use = 0;
  std::uint64_t blocks_free = 0;  // free or never carved, as _debugmallocstats counts "avail"
};

struct ArenaUse {
  PyArena arena;
  std::uint64_t bytes = 0;  // all of it
  std::uint64_t pools = 0;  // in use
  std::uint64_t free_pools = 0;
  std::uint64_t blocks_in_use = 0;
  std::uint64_t bytes_in_use = 0;
};

struct ObmallocUse {
  const char* allocator = "obmalloc";
  std::uint64_t arena_bytes = 0;  // of one arena
  std::uint64_t pool_bytes = 0;
  std::string located_by;
  std::vector<ArenaUse> arenas;
  std::vector<PoolClass> classes;  // by block size, only those with pools
  // Totals. bytes = arenas * arena_bytes = bytes_in_use + bytes_free + bytes_overhead + bytes_lost.
  std::uint64_t bytes = 0;
  std::uint64_t pools = 0;
  std::uint64_t free_pools = 0;
  std::uint64_t blocks_in_use = 0;
  std::uint64_t bytes_in_use = 0;
  std::uint64_t bytes_free = 0;      // blocks free in used pools, and free pools whole
  std::uint64_t bytes_overhead = 0;  // pool headers, tails too small for a block, arena alignment
  std::uint64_t bytes_free_pools = 0;
  std::uint64_t bytes_lost = 0;  // pools that are damaged or not in the snapshot
};

ObmallocUse summarise_obmalloc(const Snapshot& snapshot, const PyRuntime& runtime, Findings& findings);

}  // namespace heapcore
