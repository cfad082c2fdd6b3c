#include "glibc_heap/places.h"

#include <algorithm>

namespace heapcore {
namespace {

void find_chunk(const Snapshot& snapshot, const Heap& heap, const Region& region, Place& place) {
  Reader reader(snapshot.space);
  Findings unused;  // `malloc` and `verify` report them
  for_each_chunk(heap, reader, region, unused, [&](const Chunk& chunk) {
    if (chunk.address > place.address) {
      if (!place.after) place.after = chunk;
    } else if (place.address - chunk.address < chunk.size_bytes) {
      place.chunk = chunk;
    } else {
      place.before = chunk;
    }
  });
  place.kind = place.chunk ? PlaceKind::kChunk : PlaceKind::kNoChunk;
  // Behind damage, what was met next is no neighbour.
  if (!place.chunk) return;
  const Addr start = place.chunk->address;
  const Addr end = start + place.chunk->size_bytes;
  if (place.before && place.before->address + place.before->size_bytes != start) place.before.reset();
  if (place.after && place.after->address != end) place.after.reset();
  for (const Tcache& tcache : heap.tcaches) {
    if (tcache.address == place.chunk->user_address()) place.tcache = &tcache;
  }
}

}  // namespace

Place place_of(const Snapshot& snapshot, const Heap& heap, Addr address) {
  Place place;
  place.address = address;
  for (const MmappedChunk& chunk : heap.mmapped) {
    if (!chunk.mapping.contains(address)) continue;
    place.kind = PlaceKind::kMmapped;
    place.mmapped = &chunk;
    return place;
  }
  if (address - heap.arenas[0].address < heap.layout.malloc_state.size_bytes) {
    place.kind = PlaceKind::kArena;
    return place;
  }
  const auto region = std::find_if(heap.regions.begin(), heap.regions.end(),
                                   [&](const Region& r) { return r.mapped().contains(address); });
  if (region == heap.regions.end()) return place;
  place.arena = region->arena;
  if (address < region->range.start) {
    place.kind = PlaceKind::kOverhead;
  } else {
    find_chunk(snapshot, heap, *region, place);
  }
  return place;
}

}  // namespace heapcore
