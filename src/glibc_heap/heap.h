// glibc's malloc as it was in a Snapshot: plain data, filled by find_heap() and find_mmapped() (locate.h) and by
// count_chunks() (census.h). Chunks themselves are not stored: walk them with for_each_chunk() (chunks.h).
//
// Words: an *arena* is a malloc_state and the memory it manages. A *heap* of a thread arena is one heap_info and the
// memory behind it. A *region* is one contiguous run of chunks. "free" is what malloc would hand out again: chunks in a
// tcache or a fastbin are free, although their neighbours think them in use.
//
// Invariants: arenas[0] is the main arena; regions are sorted by address and disjoint; `free_listed` is sorted.
// For every arena: the sum over its regions of (overhead_bytes + range.size_bytes()) is system_bytes, or there is a
// finding.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "glibc_heap/glibc_layout.h"
#include "glibc_heap/glibc_traits.h"
#include "support/addr.h"
#include "support/counts.h"

namespace heapcore {

enum class ChunkState : std::uint8_t { kInUse, kTcache, kFast, kUnsorted, kSmall, kLarge, kTop };
constexpr std::size_t kChunkStates = 7;

// One contiguous run of chunks: of the main arena what sbrk (or mmap in its place) gave, of a thread arena one heap.
struct Region {
  AddrRange range;                   // from the first chunk to the end of the last, fenceposts included
  std::uint32_t arena = 0;           // index into Heap::arenas
  bool has_top = false;              // the last chunk is the arena's top
  bool from_brk = false;             // grows at its end by sbrk
  std::uint64_t overhead_bytes = 0;  // before range.start, of the same memory: heap_info, malloc_state, alignment
  AddrRange mapped() const { return {range.start - overhead_bytes, range.end}; }
};

// What a walk over an arena's regions found.
struct ArenaTotals {
  std::array<CountBytes, kChunkStates> by_state;
  std::uint64_t overhead_bytes =
      0;                         // heap_info, malloc_state, alignment, fenceposts, memory sbrk'd by others in between
  std::uint64_t lost_bytes = 0;  // of which the walk could not say what they are (see the findings)

  // Bytes that malloc_trim(0) would give back: whole pages inside free chunks, once the fastbins are consolidated, and,
  // of the main arena, the end of top. These are mapped bytes: neither a core nor a copy says which of them are
  // resident.
  std::uint64_t trim_chunks_bytes = 0;
  std::uint64_t trim_top_bytes = 0;
  // Of both, the pages that hold anything but zeros. Pages that were never touched, or not since an earlier trim, read
  // as zeros and cost nothing now, so this is the better forecast of the drop in resident memory.
  std::uint64_t trim_nonzero_bytes = 0;
  // By how much trim_bytes() would grow if the tcaches were emptied first: what their chunks hold back. Fastbins hold
  // nothing back, since malloc_trim consolidates them.
  std::uint64_t held_back_bytes = 0;

  CountBytes& of(ChunkState state) { return by_state[static_cast<std::size_t>(state)]; }
  const CountBytes& of(ChunkState state) const { return by_state[static_cast<std::size_t>(state)]; }
  std::uint64_t trim_bytes() const { return trim_chunks_bytes + trim_top_bytes; }
  // All that is free, top included.
  CountBytes free() const;
  ArenaTotals& operator+=(const ArenaTotals& other);
};

struct Arena {
  Addr address = 0;  // of the malloc_state
  bool is_main = false;
  bool contiguous = true;  // main: all its memory came from sbrk in one run
  Addr top = 0;            // 0: the arena has no memory yet
  std::uint64_t top_bytes = 0;
  Addr last_remainder = 0;
  std::uint64_t system_bytes = 0;      // system_mem
  std::uint64_t max_system_bytes = 0;  // max_system_mem
  std::uint64_t attached_threads = 0;  // 0: on the free list, or before 2.23
  std::vector<std::int32_t> threads;   // that allocate from it (thread_arena); see Heap::thread_arenas_known
  std::vector<AddrRange> heaps;  // mapped and usable: main: its regions; else each heap_info with its `size` bytes
  ArenaTotals totals;            // zero until count_chunks()
};

// A thread's tcache. `chunk` is an ordinary chunk in use.
struct Tcache {
  Addr address = 0;         // of the tcache_perthread_struct
  std::int32_t tid = 0;     // 0: found in an arena, its thread unknown
  std::uint32_t arena = 0;  // that holds the struct
  CountBytes chunks;        // what it holds
};

struct MmappedChunk {
  AddrRange mapping;             // what munmap would release
  Addr address = 0;              // of the chunk; mapping.start except after memalign
  std::uint64_t size_bytes = 0;  // the size field; see MmappedRule
};

// Values of malloc_par.
struct MallocPar {
  Addr address = 0;  // 0: not found, and the rest is zero
  std::uint64_t trim_threshold_bytes = 0;
  std::uint64_t top_pad_bytes = 0;
  std::uint64_t mmap_threshold_bytes = 0;
  std::uint64_t arena_test = 0;
  std::uint64_t arena_max = 0;
  std::uint64_t thp_page_bytes = 0;
  std::uint64_t huge_page_bytes = 0;  // hp_pagesize
  std::uint64_t n_mmaps = 0;
  std::uint64_t n_mmaps_max = 0;
  std::uint64_t max_n_mmaps = 0;
  std::uint64_t mmapped_bytes = 0;  // mapped, not usable; since 2.43 it drifts with mremap
  std::uint64_t max_mmapped_bytes = 0;
  std::uint64_t tcache_count = 0;
  Addr sbrk_base = 0;
};

// A free chunk of a tcache, a fastbin or the unsorted list: its address with its state in the low four bits.
using ListedChunk = std::uint64_t;
constexpr ListedChunk listed_chunk(Addr address, ChunkState state) {
  return address | static_cast<std::uint64_t>(state);
}
constexpr Addr listed_address(ListedChunk listed) {
  return listed & ~std::uint64_t{15};
}
constexpr ChunkState listed_state(ListedChunk listed) {
  return static_cast<ChunkState>(listed & 15);
}

struct Heap {
  std::string located_by;           // "symbol", "structure", "relocation" or "code"
  std::vector<std::string> agreed;  // the other methods that found the same
  std::string module_path;          // that holds main_arena
  std::string libc_version;         // as the library's banner says, "2.36"; empty where it could not be read
  std::string layout_version;       // of the tables with the shapes found: "2.36"; "2.35 to 2.41"; "mixed"
  std::string layout_source;        // "table", or "DWARF of build-id ..."
  GlibcLayout layout;
  GlibcTraits traits;
  std::uint64_t page_bytes = 4096;
  std::string other_allocator;  // a replacement that is loaded as well ("jemalloc"); empty for none

  MallocPar par;
  std::vector<Arena> arenas;
  std::vector<Region> regions;
  std::vector<Tcache> tcaches;
  bool thread_arenas_known = false;   // of every thread, so that an arena that lists none is used by none
  std::vector<MmappedChunk> mmapped;  // sorted; empty until find_mmapped()
  std::vector<ListedChunk> free_listed;

  // What the free memory would be to other threads if there were but one arena (MALLOC_ARENA_MAX=1).
  struct Confined {
    std::uint64_t free_bytes = 0;  // free in thread arenas (top included, tcaches not): only their own threads get it
    std::uint64_t idle_bytes = 0;  // of which in arenas without threads: nobody gets it until a new thread is started
    std::uint64_t arenas = 0;      // thread arenas that have memory
    std::uint64_t idle_arenas = 0;
  };
  // REQUIRES: count_chunks() was called.
  Confined confined() const;

  // The region that holds `address`, or null.
  const Region* region_at(Addr address) const;
  CountBytes mmapped_total() const;
  // Of all arenas. REQUIRES: count_chunks() was called.
  ArenaTotals totals() const;
};

}  // namespace heapcore
