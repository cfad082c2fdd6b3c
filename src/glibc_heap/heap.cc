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
  return *this;
}

const Region* Heap::region_at(Addr address) const {
  auto after = std::upper_bound(regions.begin(), regions.end(), address,
                                [](Addr a, const Region& region) { return a < region.range.start; });
  if (after == regions.begin()) return nullptr;
  const Region& region = *--after;
  return region.range.contains(address) ? &region : nullptr;
}

CountBytes Heap::mmapped_total() const {
  CountBytes total;
  for (const MmappedChunk& chunk : mmapped) total.add(chunk.mapping.size_bytes());
  return total;
}

}  // namespace heapcore
