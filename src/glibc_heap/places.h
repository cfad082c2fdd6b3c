// What an address is to malloc: which chunk holds it, in which state, between which neighbours.
#pragma once

#include <cstdint>
#include <optional>

#include "coreparse/snapshot.h"
#include "glibc_heap/chunks.h"
#include "glibc_heap/heap.h"

namespace heapcore {

enum class PlaceKind : std::uint8_t {
  kNone,      // not malloc's memory
  kChunk,     // of an arena
  kMmapped,   // a chunk with a mapping of its own
  kArena,     // the malloc_state of the main arena
  kOverhead,  // heap_info, the malloc_state of a thread arena, alignment
  kNoChunk,   // in an arena, but in no chunk: a fencepost, foreign sbrk'd memory, or damage
};

struct Place {
  Addr address = 0;
  PlaceKind kind = PlaceKind::kNone;
  std::uint32_t arena = 0;      // index into Heap::arenas; of no meaning for kNone and kMmapped
  std::optional<Chunk> chunk;   // kChunk
  std::optional<Chunk> before;  // its neighbours in memory, where it has any; for kNoChunk the nearest
  std::optional<Chunk> after;
  const MmappedChunk* mmapped = nullptr;  // kMmapped
  const Tcache* tcache = nullptr;         // the chunk is this tcache itself
};

// Walks the region that holds the address. REQUIRES: `heap` outlives the answer, find_mmapped() was called.
Place place_of(const Snapshot& snapshot, const Heap& heap, Addr address);

}  // namespace heapcore
