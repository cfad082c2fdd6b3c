// Chunks by size: the bins of every arena, and the sizes of what is in use.
//
// A class is what malloc keeps on one list. Of tcaches and fastbins, and of small bins, that is one size; of large bins
// a range; the unsorted list takes any. Chunks in use and top are classed like binned ones: one size below 1024 bytes,
// the ranges of the large bins above. Memory does not grow with the number of chunks.
#pragma once

#include <cstdint>
#include <vector>

#include "coreparse/snapshot.h"
#include "glibc_heap/heap.h"
#include "support/finding.h"

namespace heapcore {

struct SizeClass {
  std::uint32_t arena = 0;  // index into Heap::arenas: that owns the chunks, whichever thread's tcache holds them
  ChunkState state = ChunkState::kInUse;
  unsigned bin = 0;  // malloc's index: of a tcache or fastbin from 0, of the others from 1, the unsorted list, to 126
  std::uint64_t smallest_bytes = 0;  // of the chunks met
  std::uint64_t largest_bytes = 0;
  CountBytes total;
};

// Walks all regions, in parallel. Sorted by arena, state and size; classes without chunks are left out.
std::vector<SizeClass> size_classes(const Snapshot& snapshot, const Heap& heap, Findings& findings);

// The chunks in use of all arenas, by size; those that are mapped by themselves come last, of bin 0. REQUIRES:
// `classes` are of size_classes().
std::vector<SizeClass> sizes_in_use(const Heap& heap, const std::vector<SizeClass>& classes);

// The list that holds free chunks of this state and size; 0 for chunks in use, and for top.
unsigned list_of(ChunkState state, std::uint64_t size_bytes);

}  // namespace heapcore
