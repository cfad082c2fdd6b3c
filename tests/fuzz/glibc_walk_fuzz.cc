// glibc's malloc with some of its fields changed: located anew, walked, counted. What is promised: every byte of a
// region is visited or accounted for.
#include "glibc_heap/bins.h"
#include "glibc_heap/census.h"
#include "glibc_heap/chunks.h"
#include "glibc_heap/places.h"
#include "sound_heap.h"

using namespace heapcore;

namespace {

void walk(Process& process, const std::vector<Addr>& damaged) {
  Findings findings;
  HeapSearch search = find_heap(process.snapshot, findings, LayoutSource::kTables);
  if (!search.heap) {
    fuzz::promise(!search.why_not.empty(), "no heap is explained");
    return;
  }
  Heap& heap = *search.heap;
  find_mmapped(process.snapshot, {}, heap, findings);
  count_chunks(process.snapshot, heap, findings);
  check_bins(process.snapshot, heap, findings);
  const std::vector<SizeClass> classes = size_classes(process.snapshot, heap, findings);
  static_cast<void>(sizes_in_use(heap, classes));
  Reader reader(process.snapshot.space);
  for (const Region& region : heap.regions) {
    std::uint64_t visited = 0;
    Addr end = region.range.start;
    const RegionWalk walk = for_each_chunk(heap, reader, region, findings, [&](const Chunk& chunk) {
      fuzz::promise(chunk.address >= end && chunk.size_bytes <= region.range.end - chunk.address,
                    "chunks are disjoint and lie in their region");
      end = chunk.address + chunk.size_bytes;
      visited += chunk.size_bytes;
    });
    fuzz::promise(visited + walk.fencepost_bytes + walk.foreign_bytes + walk.lost_bytes == region.range.size_bytes(),
                  "a walk accounts for every byte");
  }
  for (const Addr address : damaged) static_cast<void>(place_of(process.snapshot, heap, address));
}

}  // namespace

HEAPCORE_FUZZ_TARGET(glibc_walk, const fuzz::Bytes input) {
  static const fuzz::HeapTarget target = {
      {"malloc/glibc_2.36.core.zst", "malloc/glibc_2.31.core.zst", "malloc/glibc_2.44.core.zst"},
      [](damage::Group group, const std::string&) { return group == damage::Group::kMalloc; },
      walk};
  fuzz::run_damaged(target, input);
}
