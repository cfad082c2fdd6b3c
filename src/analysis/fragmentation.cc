#include "analysis/fragmentation.h"

#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <bit>
#include <numeric>

#include "glibc_heap/chunks.h"
#include "pyobj/mimalloc.h"
#include "pyobj/obmalloc.h"

namespace heapcore {
namespace {

constexpr unsigned kPercents[] = {10, 25, 50};

AddrRange cut(AddrRange part, AddrRange whole) {
  const Addr start = std::clamp(part.start, whole.start, whole.end);
  return {start, std::clamp(part.end, start, whole.end)};
}

// By live share, exactly: a/b < c/d as a*d < c*b.
bool is_sparser(const MapArena& a, const MapArena& b) {
  const auto left = static_cast<unsigned __int128>(a.live_bytes) * b.bytes;
  const auto right = static_cast<unsigned __int128>(b.live_bytes) * a.bytes;
  return left != right ? left < right : a.address < b.address;
}

std::vector<std::uint32_t> sorted_by_share(const FragmentationMap& map, std::vector<std::uint32_t> indices) {
  std::sort(indices.begin(), indices.end(),
            [&](std::uint32_t a, std::uint32_t b) { return is_sparser(map.arenas[a], map.arenas[b]); });
  return indices;
}

class Mapper {
 public:
  Mapper(const Process& process, Progress& progress, Findings& findings)
      : process_(process), progress_(progress), findings_(findings) {}

  FragmentationMap run() {
    FragmentationMap map;
    if (const Heap* heap = process_.heap()) map.page_bytes = heap->page_bytes;
    page_bytes_ = map.page_bytes;
    read_arenas_of_python();
    std::uint64_t total = 0;
    const auto plan = [&](MapAllocator allocator, AddrRange range) {
      MapArena arena;
      arena.address = range.start;
      arena.allocator = allocator;
      arena.bytes = range.size_bytes();
      total += arena.bytes;
      map.arenas.push_back(std::move(arena));
    };
    const std::uint64_t arena_bytes = py_arenas_.empty() ? 0 : process_.runtime()->traits.arena_bytes;
    for (const PyArena& arena : py_arenas_) plan(MapAllocator::kObmalloc, {arena.address, arena.address + arena_bytes});
    for (const MiSegment& segment : segments_)
      plan(MapAllocator::kMimalloc, {segment.address, segment.address + segment.bytes});
    if (const Heap* heap = process_.heap()) {
      for (const Region& region : heap->regions) plan(MapAllocator::kMalloc, region.mapped());
    }
    const std::uint64_t pages = total / page_bytes_ + map.arenas.size();
    least_cell_bytes_ = page_bytes_;
    while (pages / (least_cell_bytes_ / page_bytes_) > kMaxMapCells) least_cell_bytes_ *= 2;
    progress_.begin("walk", total);
    tbb::parallel_for(std::size_t{0}, map.arenas.size(), [&](std::size_t i) { fill(map.arenas[i], i); });
    progress_.end();
    for (const Findings& met : met_) findings_.merge(met);
    std::sort(map.arenas.begin(), map.arenas.end(),
              [](const MapArena& a, const MapArena& b) { return a.address < b.address; });
    summarise_map(map);
    if (const Heap* heap = process_.heap()) add_mmapped(map, heap->mmapped_total());
    return map;
  }

 private:
  void read_arenas_of_python() {
    const PyRuntime* runtime = process_.runtime();
    if (runtime == nullptr) return;
    Reader reader(process_.snapshot.space);
    if (runtime->mimalloc) {
      segments_ = read_mi_segments(reader, *runtime, findings_);
      delayed_ = read_delayed_frees(reader, *runtime, findings_);
    } else if (runtime->arenas) {
      py_arenas_ = read_arenas(reader, *runtime, findings_);
    }
  }

  std::uint64_t cell_bytes_for(std::uint64_t bytes) const {
    std::uint64_t cell = least_cell_bytes_;
    while (bytes / cell >= kMaxCellsPerArena) cell *= 2;
    return cell;
  }

  // `index`: of the plan, obmalloc's arenas or mimalloc's segments first, then malloc's regions.
  void fill(MapArena& arena, std::size_t index) {
    const AddrRange range = {arena.address, arena.address + arena.bytes};
    arena.cell_bytes = cell_bytes_for(arena.bytes);
    MapStrip strip(range, arena.cell_bytes);
    if (index < py_arenas_.size()) {
      fill_obmalloc(arena, py_arenas_[index], strip);
    } else if (index < py_arenas_.size() + segments_.size()) {
      fill_mimalloc(arena, segments_[index - py_arenas_.size()], strip);
    } else {
      const Heap& heap = *process_.heap();
      fill_malloc(arena, heap, heap.regions[index - py_arenas_.size() - segments_.size()], strip);
    }
    mark_missing(range, strip);
    // What damage claims twice is not more than there is.
    arena.live_bytes = std::min(arena.live_bytes, arena.bytes);
    arena.free_bytes = std::min(arena.free_bytes, arena.bytes - arena.live_bytes);
    arena.cells = std::move(strip).cells();
    progress_.advance(arena.bytes);
  }

  void fill_obmalloc(MapArena& out, const PyArena& arena, MapStrip& strip) {
    const PyTraits& traits = process_.runtime()->traits;
    Reader reader(process_.snapshot.space);
    Findings& findings = met_.local();
    FreeBlocks free;
    for (Addr at = arena.first_pool; at < arena.carved_end; at += traits.pool_bytes) {
      const std::span<const std::byte> bytes = reader.span(at, traits.pool_bytes);
      PoolHeader pool;
      if (bytes.empty()) {
        report_missing_pool(at, findings);
        continue;
      }
      if (!read_pool(bytes, at, arena, traits, pool, findings)) continue;
      if (pool.blocks_in_use == 0) {
        out.free_bytes += traits.pool_bytes;
        continue;
      }
      const std::uint64_t blocks = (traits.pool_bytes - pool.first_block) / pool.block_bytes;
      const std::uint64_t in_use = std::min<std::uint64_t>(pool.blocks_in_use, blocks);
      out.live_bytes += in_use * pool.block_bytes;
      out.free_bytes += (blocks - in_use) * pool.block_bytes;
      read_free_blocks(bytes, pool, free, findings);
      std::uint32_t block = 0;
      for (std::uint32_t offset = pool.first_block; offset < pool.nextoffset; offset += pool.block_bytes, ++block) {
        if (!free.test(block)) strip.add_live({at + offset, at + offset + pool.block_bytes});
      }
    }
    const Addr pools_end = arena.first_pool + std::uint64_t{arena.ntotalpools} * traits.pool_bytes;
    if (pools_end > arena.carved_end) out.free_bytes += pools_end - arena.carved_end;
    strip.mark({arena.carved_end, std::max(arena.carved_end, out.address + out.bytes)}, map_cell::kNeverUsed);
  }

  void fill_mimalloc(MapArena& out, const MiSegment& segment, MapStrip& strip) {
    Reader reader(process_.snapshot.space);
    Findings& findings = met_.local();
    MiFreeBlocks free;
    std::uint64_t accounted = segment.info_bytes + segment.lost_bytes;
    for (const MiPage& page : segment.pages) {
      read_free_blocks(reader, page, delayed_, free, findings);
      const std::uint64_t in_use = page.capacity - free.count;
      out.live_bytes += in_use * page.block_bytes;
      out.free_bytes += (page.reserved - in_use) * page.block_bytes;
      accounted += page.span_bytes;
      for (std::uint32_t i = 0; i < page.capacity; ++i) {
        const Addr address = page.first_block + i * page.block_bytes;
        if (!free.test(i)) strip.add_live({address, address + page.block_bytes});
      }
    }
    out.free_bytes += segment.bytes - std::min(accounted, segment.bytes);
  }

  void fill_malloc(MapArena& out, const Heap& heap, const Region& region, MapStrip& strip) {
    Reader reader(process_.snapshot.space);
    AddrRange top;
    for_each_chunk(heap, reader, region, met_.local(), [&](const Chunk& chunk) {
      if (chunk.in_use()) {
        out.live_bytes += chunk.size_bytes;
        strip.add_live({chunk.address, chunk.address + chunk.size_bytes});
        return;
      }
      out.free_bytes += chunk.size_bytes;
      if (chunk.state == ChunkState::kTop) top = {chunk.address, chunk.address + chunk.size_bytes};
    });
    strip.mark(top, map_cell::kTop);
  }

  void mark_missing(AddrRange range, MapStrip& strip) {
    const std::span<const Segment> segments = process_.snapshot.space.segments();
    Addr known = range.start;
    for (std::size_t i = process_.snapshot.space.lower_index(range.start);
         i < segments.size() && segments[i].start < range.end; ++i) {
      if (segments[i].start > known) strip.mark({known, segments[i].start}, map_cell::kNotDumped);
      known = std::min(segments[i].end, range.end);
      if (segments[i].state == ByteState::kNotDumped)
        strip.mark(cut({segments[i].start, segments[i].end}, range), map_cell::kNotDumped);
    }
    if (known < range.end) strip.mark({known, range.end}, map_cell::kNotDumped);
  }

  static void add_mmapped(FragmentationMap& map, CountBytes mmapped) {
    const auto found = std::find_if(map.allocators.begin(), map.allocators.end(),
                                    [](const MapTotals& t) { return t.allocator == MapAllocator::kMalloc; });
    if (found != map.allocators.end()) {
      found->mmapped = mmapped;
    } else if (mmapped.count != 0) {
      map.allocators.emplace_back();
      map.allocators.back().allocator = MapAllocator::kMalloc;
      map.allocators.back().mmapped = mmapped;
    }
  }

  const Process& process_;
  Progress& progress_;
  Findings& findings_;
  std::uint64_t page_bytes_ = 4096;
  std::uint64_t least_cell_bytes_ = 4096;
  std::vector<PyArena> py_arenas_;
  std::vector<MiSegment> segments_;
  std::vector<Addr> delayed_;  // sorted
  tbb::enumerable_thread_specific<Findings> met_;
};

}  // namespace

FragmentationMap map_memory(const Process& process, Progress& progress, Findings& findings) {
  return Mapper(process, progress, findings).run();
}

MapStrip::MapStrip(AddrRange range, std::uint64_t cell_bytes)
    : range_(range),
      cell_bits_(static_cast<unsigned>(std::countr_zero(cell_bytes))),
      live_bytes_((range.size_bytes() + cell_bytes - 1) >> cell_bits_),
      marks_(live_bytes_.size(), map_cell::kFree) {}

void MapStrip::add_live(AddrRange block) {
  block = cut(block, range_);
  while (!block.empty()) {
    const std::uint64_t cell = (block.start - range_.start) >> cell_bits_;
    const Addr cell_end = range_.start + ((cell + 1) << cell_bits_);
    const Addr end = std::min(block.end, cell_end);
    live_bytes_[cell] += end - block.start;
    block.start = end;
  }
}

void MapStrip::mark(AddrRange part, std::uint8_t what) {
  part = cut(part, range_);
  for (Addr at = part.start; at < part.end;) {
    const std::uint64_t cell = (at - range_.start) >> cell_bits_;
    const Addr cell_start = range_.start + (cell << cell_bits_);
    const Addr cell_end = std::min(range_.end, cell_start + (Addr{1} << cell_bits_));
    const Addr end = std::min(part.end, cell_end);
    if (live_bytes_[cell] == 0 && 2 * (end - at) >= cell_end - cell_start) marks_[cell] = what;
    at = end;
  }
}

std::vector<std::uint8_t> MapStrip::cells() && {
  for (std::size_t i = 0; i < live_bytes_.size(); ++i) {
    const Addr start = range_.start + (std::uint64_t{i} << cell_bits_);
    const std::uint64_t size = std::min(range_.end - start, std::uint64_t{1} << cell_bits_);
    if (live_bytes_[i] == 0) continue;
    // Rounded up, so that a page with anything live is never taken for a free one.
    const std::uint64_t share = (std::min(live_bytes_[i], size) * map_cell::kFull + size - 1) / size;
    marks_[i] = static_cast<std::uint8_t>(share);
  }
  return std::move(marks_);
}

std::vector<std::uint32_t> sparsest_arenas(const FragmentationMap& map, MapAllocator allocator) {
  std::vector<std::uint32_t> indices;
  for (std::uint32_t i = 0; i < map.arenas.size(); ++i) {
    if (map.arenas[i].allocator == allocator) indices.push_back(i);
  }
  return sorted_by_share(map, std::move(indices));
}

std::vector<std::uint32_t> sparsest_arenas(const FragmentationMap& map) {
  std::vector<std::uint32_t> indices(map.arenas.size());
  std::iota(indices.begin(), indices.end(), 0U);
  return sorted_by_share(map, std::move(indices));
}

void summarise_map(FragmentationMap& map) {
  for (std::size_t which = 0; which < kMapAllocators; ++which) {
    const auto allocator = static_cast<MapAllocator>(which);
    const std::vector<std::uint32_t> sparsest = sparsest_arenas(map, allocator);
    if (sparsest.empty()) continue;
    MapTotals totals;
    totals.allocator = allocator;
    totals.arenas = sparsest.size();
    for (const std::uint32_t index : sparsest) {
      const MapArena& arena = map.arenas[index];
      totals.bytes += arena.bytes;
      totals.live_bytes += arena.live_bytes;
      totals.free_bytes += arena.free_bytes;
      if (arena.live_bytes == 0) totals.free_arenas.add(arena.bytes);
      const auto tenth = static_cast<std::size_t>(arena.live_share() * kOccupancyClasses);
      ++totals.occupancy[std::min(tenth, kOccupancyClasses - 1)];
    }
    map.allocators.push_back(totals);
    for (const unsigned percent : kPercents) {
      MapEmptying emptying{allocator, percent, (sparsest.size() * percent + 99) / 100, 0, 0};
      for (std::size_t i = 0; i < emptying.arenas; ++i) {
        emptying.freed_bytes += map.arenas[sparsest[i]].bytes;
        emptying.moved_bytes += map.arenas[sparsest[i]].live_bytes;
      }
      map.emptying.push_back(emptying);
    }
  }
}

}  // namespace heapcore
