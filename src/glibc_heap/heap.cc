#include "glibc_heap/heap.h"

#include <algorithm>

namespace heapcore {

CountBytes ArenaTotals::free() const {
  CountBytes sum;
  for (std::size_t i = 0; i < kChunkStates; ++i) {
    if (static_cast<ChunkState>(i) != ChunkState::kInUse) sum += by_state[i];
  }
  return sum;
}

ArenaTotals& ArenaTotals::operator+=(const ArenaTotals& other) {
  for (std::size_t i = 0; i < kChunkStates; ++i) by_state[i] += other.by_state[i];
  overhead_bytes += other.overhead_bytes;
  lost_bytes += other.lost_bytes;
  trim_chunks_bytes += other.trim_chunks_bytes;
  trim_top_bytes += other.trim_top_bytes;
  trim_nonzero_bytes += other.trim_nonzero_bytes;
  held_back_bytes += other.held_back_bytes;
  return *this;
}

const Region* Heap::region_at(Addr address) const {
  auto after = std::upper_bound(regions.begin(), regions.end(), address,
                                [](Addr a, const Region& region) { return a < region.range.start; });
  if (after == regions.begin()) return nullptr;
  const Region& region = *--after;
  return region.range.contains(address) ? &region : nullptr;
}

// Before 2.23 only the threads themselves say whether an arena has any.
Heap::Confined Heap::confined() const {
  Confined sum;
  const bool counted = layout.malloc_state.attached_threads.present();
  for (const Arena& arena : arenas) {
    if (arena.is_main || arena.system_bytes == 0) continue;
    const std::uint64_t free = arena.totals.free().bytes - arena.totals.of(ChunkState::kTcache).bytes;
    const bool idle = counted ? arena.attached_threads == 0 : thread_arenas_known && arena.threads.empty();
    sum.free_bytes += free;
    ++sum.arenas;
    if (!idle) continue;
    sum.idle_bytes += free;
    ++sum.idle_arenas;
  }
  return sum;
}

ArenaTotals Heap::totals() const {
  ArenaTotals all;
  for (const Arena& arena : arenas) all += arena.totals;
  return all;
}

CountBytes Heap::mmapped_total() const {
  CountBytes total;
  for (const MmappedChunk& chunk : mmapped) total.add(chunk.mapping.size_bytes());
  return total;
}

}  // namespace heapcore
