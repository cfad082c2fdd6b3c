// The ring of arenas, the heaps of each, and the regions of chunks they make.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "glibc_heap/parts.h"

namespace heapcore {
namespace {

constexpr std::size_t kMaxArenas = 65536;
constexpr std::size_t kMaxHeaps = std::size_t{1} << 20;

class RegionFinder {
 public:
  RegionFinder(Target& target, Heap& heap) : target_(target), heap_(heap) {}

  void run() {
    read_arena(heap_.arenas[0]);
    follow_ring();
    detect_heap_info();
    add_main_regions();
    for (std::uint32_t i = 1; i < heap_.arenas.size(); ++i) add_heaps(i);
    std::sort(heap_.regions.begin(), heap_.regions.end(),
              [](const Region& a, const Region& b) { return a.range.start < b.range.start; });
    drop_overlaps();
    clamp_to_mapped();
    check_sums();
  }

 private:
  Reader& reader() { return target_.reader; }

  // The last bin is never used, so that its first link names its own head.
  bool is_arena(Addr address) {
    const Addr head = bin_head(heap_.layout.malloc_state, address, kBins);
    return reader().load<Addr>(head + kChunkHeaderBytes) == head;
  }
  void read_arena(Arena& arena);
  void follow_ring();
  void add_unlinked();
  void detect_heap_info();
  void add_main_regions();
  void add_main_parts(Arena& main);
  std::optional<Region> main_part(Addr start, const Arena& main);
  void add_heaps(std::uint32_t index);
  bool add_heap(std::uint32_t index, Addr info, std::set<Addr>& seen);
  void drop_overlaps();
  void clamp_to_mapped();
  void check_sums();
  Addr first_chunk(const Arena& arena, Addr info) const;

  Target& target_;
  Heap& heap_;
  std::uint64_t steps_left_ = 0;  // of following chunks in search of parts
};

void RegionFinder::read_arena(Arena& arena) {
  const auto& layout = heap_.layout.malloc_state;
  const auto get = [&](Field field) { return field_or_zero(reader(), arena.address, field); };
  arena.top = get(layout.top);
  arena.last_remainder = get(layout.last_remainder);
  arena.system_bytes = get(layout.system_mem);
  arena.max_system_bytes = get(layout.max_system_mem);
  arena.attached_threads = get(layout.attached_threads);
  arena.contiguous = arena.is_main && (get(layout.flags) & kNonContiguous) == 0;
  if (arena.top == bin_head(heap_.layout.malloc_state, arena.address, 1)) arena.top = 0;
  arena.top_bytes = arena.top != 0 ? reader().load<std::uint64_t>(arena.top + 8).value_or(0) & ~kSizeFlags : 0;
}

void RegionFinder::follow_ring() {
  const Addr main = heap_.arenas[0].address;
  std::set<Addr> seen{main};
  Addr at = main;
  for (;;) {
    Addr next = 0;
    const bool read = reader().try_load(at + heap_.layout.malloc_state.next.offset, next);
    if (read && next == main) return;
    const bool arena = read && is_aligned(next, 8) && is_arena(next);
    if (!arena || !seen.insert(next).second || seen.size() > kMaxArenas) break;
    heap_.arenas.emplace_back();
    heap_.arenas.back().address = next;
    read_arena(heap_.arenas.back());
    at = next;
  }
  target_.damage("arena-ring-broken", at, "the ring of arenas breaks after this one");
  add_unlinked();
}

// Arenas that a broken ring no longer reaches: each begins a heap, and heaps begin at multiples of a known size.
void RegionFinder::add_unlinked() {
  std::set<Addr> known;
  for (const Arena& arena : heap_.arenas) known.insert(arena.address);
  for (const Mapping& mapping : target_.snapshot.mappings) {
    if (mapping.is_file() || !mapping.writable) continue;
    for (Addr info = align_up(mapping.start, heap_.traits.heap_max_bytes); info < mapping.end;
         info += heap_.traits.heap_max_bytes) {
      const Addr arena = reader().load<Addr>(info).value_or(0);
      if (arena <= info || arena - info > 256 || known.contains(arena)) continue;
      if (!is_arena(arena)) continue;
      known.insert(arena);
      heap_.arenas.emplace_back();
      heap_.arenas.back().address = arena;
      read_arena(heap_.arenas.back());
    }
  }
}

// An arena's first heap_info lies directly before its malloc_state, and points to it: that gives its size.
void RegionFinder::detect_heap_info() {
  if (heap_.arenas.size() < 2) return;
  const Addr arena = heap_.arenas[1].address;
  for (const GlibcLayout& known : target_.layouts) {
    const auto& layout = known._heap_info;
    if (reader().load<Addr>(arena - layout.size_bytes + layout.ar_ptr.offset) != arena) continue;
    if (!is_aligned(arena - layout.size_bytes, 4096)) continue;
    heap_.layout._heap_info = layout;
    return;
  }
  target_.damage("heap-info-unknown", arena, "no known heap_info lies before this arena");
}

void RegionFinder::add_main_regions() {
  Arena& main = heap_.arenas[0];
  if (main.top == 0 || main.system_bytes == 0) return;
  const std::optional<Addr> top_end = checked_add(main.top, main.top_bytes);
  // What mp_ says, or where top's end says that a main arena of one piece began.
  Addr base = heap_.par.sbrk_base;
  if (base == 0 && top_end && main.system_bytes <= *top_end) base = *top_end - main.system_bytes;
  const std::optional<Addr> end = checked_add(base, main.system_bytes);
  const bool top_inside = end && main.top >= base && main.top < *end;
  if (main.contiguous && top_inside && base != 0) {
    if (top_end != end) {
      target_.damage("top-out-of-heap", main.top,
                     fmt::format("top's size is {}, but its heap ends at {:#x}", main.top_bytes, *end));
      main.top_bytes = *end - main.top;
    }
    const Addr start = align_up(base, kChunkAlignment);
    heap_.regions.push_back({{start, *end}, 0, true, true, start - base});
    main.heaps.push_back({base, *end});
    return;
  }
  if (main.contiguous && end && base != 0) {
    target_.damage("top-out-of-heap", main.top, "the main arena's top lies outside what sbrk gave it");
    const Addr start = align_up(base, kChunkAlignment);
    heap_.regions.push_back({{start, std::max(start, *end)}, 0, false, true, start - base});
    main.heaps.push_back({base, *end});
    main.top = 0;
    main.top_bytes = 0;
    return;
  }
  main.contiguous = false;
  add_main_parts(main);
}

// A main arena in several parts, because sbrk failed or moved: each part is a run of chunks that ends in a fencepost or
// in top. Parts made with mmap begin at a page, though not always at a mapping's start.
void RegionFinder::add_main_parts(Arena& main) {
  std::uint64_t found_bytes = 0;
  const auto known = [&](Addr at) {
    return std::any_of(main.heaps.begin(), main.heaps.end(), [&](const AddrRange& r) { return r.contains(at); });
  };
  const auto try_at = [&](Addr start) {
    while (!known(start)) {
      const std::optional<Region> part = main_part(start, main);
      if (!part) return;
      heap_.regions.push_back(*part);
      main.heaps.push_back(part->mapped());
      found_bytes += part->mapped().size_bytes();
      start = part->range.end;  // another may follow at once
    }
  };
  steps_left_ = target_.snapshot.mapped_bytes() / kMinChunkBytes * 4;
  if (heap_.par.sbrk_base != 0) try_at(heap_.par.sbrk_base);
  for (const bool every_page : {false, true}) {
    for (const Mapping& mapping : target_.snapshot.mappings) {
      if (found_bytes >= main.system_bytes) break;
      if (mapping.is_file() || !mapping.writable || mapping.shared) continue;
      for (Addr at = mapping.start; at < mapping.end && found_bytes < main.system_bytes; at += heap_.page_bytes) {
        try_at(at);
        if (!every_page) break;
      }
    }
  }
  std::sort(main.heaps.begin(), main.heaps.end(),
            [](const AddrRange& a, const AddrRange& b) { return a.start < b.start; });
}

std::optional<Region> RegionFinder::main_part(Addr start, const Arena& main) {
  const Addr first = align_up(start, kChunkAlignment);
  const bool from_brk = start == heap_.par.sbrk_base;
  Addr at = first;
  std::uint64_t previous_size = 0;
  std::uint64_t left = main.system_bytes;
  for (;;) {
    std::uint64_t prev_size = 0;
    std::uint64_t word = 0;
    if (steps_left_ == 0) return std::nullopt;
    --steps_left_;
    if (!reader().try_load(at, prev_size) || !reader().try_load(at + 8, word)) return std::nullopt;
    const std::uint64_t size = word & ~kSizeFlags;
    if (at == first && (word & kPrevInUse) == 0) return std::nullopt;
    if (at != first && (word & kPrevInUse) == 0 && prev_size != previous_size) return std::nullopt;
    if (at == main.top) return Region{{first, at + main.top_bytes}, 0, true, from_brk, first - start};
    if (size == kChunkHeaderBytes && at != first) {
      // Two fenceposts, or three where less than MINSIZE was left; they end at a page.
      Addr end = at;
      while (end - at < 3 * kChunkHeaderBytes && !(end > at && is_aligned(end, heap_.page_bytes)) &&
             (reader().load<std::uint64_t>(end + 8).value_or(0) & ~kSizeFlags) == kChunkHeaderBytes) {
        end += kChunkHeaderBytes;
      }
      if (end - at < 2 * kChunkHeaderBytes) return std::nullopt;
      return Region{{first, end}, 0, false, from_brk, first - start};
    }
    if (size < kMinChunkBytes || (word & (8 | kIsMmapped | kNonMainArena)) != 0 || size > left) return std::nullopt;
    previous_size = size;
    at += size;
    left -= size;
  }
}

Addr RegionFinder::first_chunk(const Arena& arena, Addr info) const {
  const Addr data = info + heap_.layout._heap_info.size_bytes;
  const Addr after = data == arena.address ? data + heap_.layout.malloc_state.size_bytes : data;
  return align_up(after, kChunkAlignment);
}

bool RegionFinder::add_heap(std::uint32_t index, Addr info, std::set<Addr>& seen) {
  Arena& arena = heap_.arenas[index];
  const auto& layout = heap_.layout._heap_info;
  const std::optional<std::uint64_t> owner = load_field(reader(), info, layout.ar_ptr);
  const std::uint64_t size = field_or_zero(reader(), info, layout.size);
  const Addr start = first_chunk(arena, info);
  const bool sound = owner == arena.address && size <= heap_.traits.heap_max_bytes && is_aligned(size, 4096) &&
                     start - info + kMinChunkBytes <= size;
  if (!sound || !seen.insert(info).second) return false;
  const AddrRange whole{info, info + size};
  Region region{{start, whole.end}, index, false, false, start - info};
  if (whole.contains(arena.top)) {
    region.has_top = arena.top >= start && is_aligned(arena.top, kChunkAlignment);
    if (arena.top + arena.top_bytes != whole.end || !region.has_top) {
      target_.damage("top-out-of-heap", arena.top,
                     fmt::format("top's size is {}, but its heap ends at {:#x}", arena.top_bytes, whole.end));
    }
    arena.top_bytes = whole.end - arena.top;
  }
  heap_.regions.push_back(region);
  arena.heaps.push_back(whole);
  return true;
}

// From top's heap back to the one that holds the arena itself.
void RegionFinder::add_heaps(std::uint32_t index) {
  Arena& arena = heap_.arenas[index];
  const Addr own = arena.address - heap_.layout._heap_info.size_bytes;
  std::set<Addr> seen;
  Addr info = align_down(arena.top, heap_.traits.heap_max_bytes);
  while (seen.size() < kMaxHeaps && add_heap(index, info, seen)) {
    if (info == own) break;
    info = field_or_zero(reader(), info, heap_.layout._heap_info.prev);
  }
  if (!seen.contains(own)) {
    const bool top_lost = seen.empty();
    target_.damage(top_lost ? "top-out-of-heap" : "heap-chain-broken", top_lost ? arena.top : info,
                   fmt::format("the heaps of the arena at {:#x} do not lead from its top to itself", arena.address));
    add_heap(index, own, seen);
    for (const Mapping& mapping : target_.snapshot.mappings) {
      if (mapping.is_file() || !mapping.writable) continue;
      for (Addr at = align_up(mapping.start, heap_.traits.heap_max_bytes); at < mapping.end;
           at += heap_.traits.heap_max_bytes) {
        if (!seen.contains(at) && reader().load<Addr>(at) == arena.address) add_heap(index, at, seen);
      }
    }
  }
  if (!std::any_of(arena.heaps.begin(), arena.heaps.end(), [&](const AddrRange& r) { return r.contains(arena.top); })) {
    arena.top = 0;
    arena.top_bytes = 0;
  }
  std::sort(arena.heaps.begin(), arena.heaps.end(),
            [](const AddrRange& a, const AddrRange& b) { return a.start < b.start; });
}

// Only a damaged or hostile target has regions that overlap; the lower one stands.
void RegionFinder::drop_overlaps() {
  Addr end = 0;
  std::erase_if(heap_.regions, [&](const Region& region) {
    if (region.range.start < end || region.range.end < region.range.start) {
      target_.damage("heap-overlap", region.range.start, "a heap overlaps another one and is left out");
      return true;
    }
    end = region.range.end;
    return false;
  });
}

// Sizes come from the target. A region that its sizes let reach beyond what is mapped without a break ends there, so
// that no walk is longer than the memory it is about.
void RegionFinder::clamp_to_mapped() {
  const std::vector<Mapping>& mappings = target_.snapshot.mappings;
  std::erase_if(heap_.regions, [&](Region& region) {
    const Addr start = region.mapped().start;
    auto at = std::upper_bound(mappings.begin(), mappings.end(), start,
                               [](Addr a, const Mapping& mapping) { return a < mapping.end; });
    Addr mapped_end = start;
    for (; at != mappings.end() && at->start <= mapped_end && mapped_end < region.range.end; ++at) mapped_end = at->end;
    if (mapped_end >= region.range.end) return false;
    target_.damage("region-not-mapped", start,
                   fmt::format("an arena's sizes claim {} bytes from here on, of which {} are mapped",
                               region.range.end - start, mapped_end - start));
    if (mapped_end < region.range.start + kMinChunkBytes) return true;
    region.range.end = align_down(mapped_end, kChunkAlignment);
    Arena& arena = heap_.arenas[region.arena];
    if (region.has_top && arena.top + kMinChunkBytes > region.range.end) region.has_top = false;
    if (region.has_top) arena.top_bytes = region.range.end - arena.top;
    return false;
  });
}

void RegionFinder::check_sums() {
  std::vector<std::uint64_t> bytes(heap_.arenas.size());
  for (const Region& region : heap_.regions) bytes[region.arena] += region.mapped().size_bytes();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const Arena& arena = heap_.arenas[i];
    if (bytes[i] == arena.system_bytes) continue;
    target_.damage("arena-size-mismatch", arena.address,
                   fmt::format("system_mem is {}, its heaps are {} bytes", arena.system_bytes, bytes[i]));
  }
}

}  // namespace

void find_arenas(Target& target, Heap& heap) {
  RegionFinder(target, heap).run();
}

}  // namespace heapcore
