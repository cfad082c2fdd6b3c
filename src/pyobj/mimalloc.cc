#include "pyobj/mimalloc.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

namespace heapcore {
namespace {

constexpr std::uint64_t kSegmentAlign = 32 << 20;  // MI_SEGMENT_ALIGN
constexpr std::uint64_t kSliceBytes = 64 << 10;    // MI_SEGMENT_SLICE_SIZE
constexpr std::uint64_t kMaxSlices = kSegmentAlign / kSliceBytes;
constexpr std::uint32_t kHugeBlock = std::uint32_t{1} << 31;  // MI_HUGE_BLOCK_SIZE: the block is all of its page
constexpr std::uint64_t kMaxThreads = 1 << 20;
constexpr std::uint64_t kMaxDelayedFrees = 1 << 24;

// The heaps of every thread state that has been bound to its thread.
std::vector<Addr> thread_heaps(Reader& reader, const PyRuntime& runtime) {
  const PyLayout& layout = *runtime.traits.layout;
  const auto& fields = layout._PyThreadStateImpl;
  const std::uint64_t heap_bytes = layout.mi_heap_s.size_bytes;
  std::vector<Addr> heaps;
  if (heap_bytes == 0 || !fields.mimalloc_heaps.present()) return heaps;
  std::unordered_set<Addr> seen;
  for (const Interpreter& interpreter : runtime.interpreters) {
    Addr thread = 0;
    reader.try_load(interpreter.address + layout.PyInterpreterState.threads_head.offset, thread);
    while (thread != 0 && seen.size() < kMaxThreads && seen.insert(thread).second) {
      std::int32_t initialized = 0;
      reader.try_load(thread + fields.mimalloc_initialized.offset, initialized);
      const std::uint64_t count = initialized == 0 ? 0 : fields.mimalloc_heaps.width_bytes / heap_bytes;
      for (std::uint64_t i = 0; i < count; ++i) heaps.push_back(thread + fields.mimalloc_heaps.offset + i * heap_bytes);
      if (!reader.try_load(thread + layout.PyThreadState.next.offset, thread)) break;
    }
  }
  return heaps;
}

class SegmentSearch {
 public:
  SegmentSearch(const Snapshot& snapshot, const PyLayout& layout)
      : snapshot_(snapshot), reader_(snapshot.space), layout_(layout) {}

  // A segment's cookie is its address XOR a number that is the process's own. What most of the pages that
  // know their heap say it is.
  std::optional<std::uint64_t> process_cookie(const std::vector<Addr>& heaps) {
    std::map<std::uint64_t, std::uint64_t> votes;
    const std::uint64_t queue_bytes = layout_.mi_page_queue_s.size_bytes;
    if (queue_bytes == 0) return std::nullopt;
    const std::uint64_t queues = layout_.mi_heap_s.pages.width_bytes / queue_bytes;
    for (const Addr heap : heaps) {
      for (std::uint64_t i = 0; i < queues; ++i) {
        Addr page = 0;
        const Addr queue = heap + layout_.mi_heap_s.pages.offset + i * queue_bytes;
        if (!reader_.try_load(queue + layout_.mi_page_queue_s.first.offset, page) || page == 0) continue;
        const Addr segment = align_down(page, kSegmentAlign);
        const std::uint64_t into_slices = page - segment - layout_.mi_segment_s.slices.offset;
        std::uint64_t cookie = 0;
        Addr owner = 0;
        if (into_slices % layout_.mi_page_s.size_bytes == 0 &&
            reader_.try_load(page + layout_.mi_page_s.xheap.offset, owner) && owner == heap &&
            reader_.try_load(segment + layout_.mi_segment_s.cookie.offset, cookie)) {
          ++votes[cookie ^ segment];
        }
      }
    }
    return most_voted(votes);
  }

  // Every place where a segment can begin is looked at, so that those of threads that are gone are found too.
  std::vector<Addr> segments(std::uint64_t process_cookie) {
    std::vector<Addr> found;
    for_each_place([&](Addr at) {
      const std::uint64_t bytes = segment_bytes(at, process_cookie);
      if (bytes != 0) found.push_back(at);
      return bytes;
    });
    return found;
  }

  // The process's number by what may be segments' headers alone; `judge` says whether one is sound in itself.
  std::optional<std::uint64_t> cookie_by_structure(const std::function<bool(Addr)>& judge) {
    std::map<std::uint64_t, std::uint64_t> votes;
    for_each_place([&](Addr at) {
      std::uint64_t cookie = 0;
      if (!reader_.try_load(at + layout_.mi_segment_s.cookie.offset, cookie)) return std::uint64_t{0};
      const std::uint64_t bytes = segment_bytes(at, cookie ^ at);
      if (bytes == 0 || !judge(at)) return std::uint64_t{0};
      ++votes[cookie ^ at];
      return bytes;
    });
    return most_voted(votes);
  }

 private:
  static std::optional<std::uint64_t> most_voted(const std::map<std::uint64_t, std::uint64_t>& votes) {
    const auto most =
        std::max_element(votes.begin(), votes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    if (most == votes.end()) return std::nullopt;
    return most->first;
  }

  // Calls visit(address) where a segment may begin; it returns the bytes of the segment there, 0 if there is none.
  template <typename Visit>
  void for_each_place(Visit&& visit) {
    Addr end_of_last = 0;  // what lies inside a huge segment is no segment
    for (const Mapping& mapping : snapshot_.mappings) {
      if (mapping.is_file() || !mapping.writable) continue;
      Addr at = align_up(std::max(mapping.start, end_of_last), kSegmentAlign);
      while (at < mapping.end) {
        // Reserved memory can be terabytes of nothing.
        const Addr present = snapshot_.space.next_present(at);
        if (present >= mapping.end) break;
        if (present >= at + kSegmentAlign) {
          at = align_down(present, kSegmentAlign);
          continue;
        }
        end_of_last = std::max(end_of_last, at + visit(at));
        at = align_up(std::max(at + 1, end_of_last), kSegmentAlign);
      }
    }
  }

  // 0 if no segment in use is there.
  std::uint64_t segment_bytes(Addr address, std::uint64_t process_cookie) {
    const auto& fields = layout_.mi_segment_s;
    std::uint64_t cookie = 0;
    std::uint64_t used = 0;
    std::uint64_t slices = 0;
    if (!reader_.try_load(address + fields.cookie.offset, cookie) || (cookie ^ address) != process_cookie ||
        !reader_.try_load(address + fields.used.offset, used) || used == 0 ||
        !reader_.try_load(address + fields.segment_slices.offset, slices)) {
      return 0;
    }
    const auto bytes = checked_mul(slices, kSliceBytes);
    return bytes && checked_add(address, *bytes) ? *bytes : 0;
  }

  const Snapshot& snapshot_;
  Reader reader_;
  const PyLayout& layout_;
};

// Reads one segment's mi_segment_s.
class SegmentReader {
 public:
  SegmentReader(std::span<const std::byte> header, const PyLayout& layout, MiSegment& segment, Findings& findings)
      : header_(header), layout_(layout), segment_(segment), findings_(findings) {}

  void run() {
    const auto& fields = layout_.mi_segment_s;
    const std::uint64_t info_slices = number(0, fields.segment_info_slices);
    const std::uint64_t entries = number(0, fields.slice_entries);
    const std::uint64_t slices = segment_.bytes / kSliceBytes;
    if (info_slices == 0 || info_slices > entries || entries > std::min(slices, kMaxSlices)) {
      findings_.add({"mimalloc-segment-damaged", Room::kPyobj, segment_.address,
                     "the header of a mimalloc segment does not add up; its pages are left out"});
      segment_.lost_bytes = segment_.bytes;
      return;
    }
    segment_.info_bytes = info_slices * kSliceBytes;
    for (std::uint64_t index = info_slices; index < entries;) {
      const std::uint64_t base = fields.slices.offset + index * layout_.mi_page_s.size_bytes;
      const std::uint64_t count = number(base, layout_.mi_page_s.slice_count);
      if (count == 0 || count > slices - index) {
        findings_.add({"mimalloc-slice-damaged", Room::kPyobj, segment_.address + base,
                       fmt::format("slice {} of the mimalloc segment at {:#x} does not add up; what lies behind it in "
                                   "the segment is left out",
                                   index, segment_.address)});
        segment_.lost_bytes += (slices - index) * kSliceBytes;
        return;
      }
      if (number(base, layout_.mi_page_s.block_size) != 0) add_page(index, base, count);
      index += count;
    }
  }

 private:
  void add_page(std::uint64_t index, std::uint64_t base, std::uint64_t slice_count) {
    const auto& fields = layout_.mi_page_s;
    MiPage page;
    page.address = segment_.address + base;
    page.span_bytes = slice_count * kSliceBytes;
    const Addr start = segment_.address + index * kSliceBytes;
    page.block_bytes = number(base, fields.block_size);
    if (fields.page_start.present()) {
      page.first_block = number(base, fields.page_start);
    } else {
      page.first_block = start + start_offset(page.block_bytes);
      if (page.block_bytes >= kHugeBlock) page.block_bytes = page.span_bytes;
    }
    page.capacity = static_cast<std::uint32_t>(number(base, fields.capacity));
    page.reserved = static_cast<std::uint32_t>(number(base, fields.reserved));
    page.used = static_cast<std::uint32_t>(number(base, fields.used));
    const std::uint64_t tag = heap_tag(base);
    page.heap = tag < static_cast<std::uint64_t>(MiHeap::kOther) ? static_cast<MiHeap>(tag) : MiHeap::kOther;
    page.free = number(base, fields.free);
    page.local_free = number(base, fields.local_free);
    page.thread_free = align_down(number(base, fields.xthread_free), 4);
    page.owner = number(base, fields.xheap);
    const std::uint64_t offset = page.first_block - start;
    const bool sound = page.block_bytes >= 8 && page.block_bytes % 8 == 0 && page.capacity <= page.reserved &&
                       page.used <= page.capacity && offset < page.span_bytes &&
                       page.reserved <= (page.span_bytes - offset) / page.block_bytes;
    if (sound) {
      segment_.pages.push_back(page);
      return;
    }
    findings_.add({"mimalloc-page-damaged", Room::kPyobj, page.address,
                   fmt::format("a page of mimalloc does not add up; its {} bytes are left out", page.span_bytes)});
    segment_.lost_bytes += page.span_bytes;
  }

  std::uint64_t number(std::uint64_t base, const Field& field) const {
    std::uint64_t value = 0;
    const std::uint64_t width = std::min<std::uint64_t>(field.width_bytes, sizeof value);
    if (base + field.offset + width <= header_.size()) std::memcpy(&value, header_.data() + base + field.offset, width);
    return value;
  }

  // To 2.1.2 it shares a byte: is_committed, is_zero_init, use_qsbr, then four bits of it.
  std::uint64_t heap_tag(std::uint64_t base) const {
    const auto& fields = layout_.mi_page_s;
    return fields.heap_tag.present() ? number(base, fields.heap_tag) : number(base, fields.tag) >> 3 & 0xf;
  }

  // Small blocks begin a little behind the page's start, so that those of several pages do not share cache lines.
  static std::uint64_t start_offset(std::uint64_t block_bytes) {
    return block_bytes <= 64 ? 3 * block_bytes : block_bytes <= 512 ? block_bytes : 0;
  }

  std::span<const std::byte> header_;
  const PyLayout& layout_;
  MiSegment& segment_;
  Findings& findings_;
};

class FreeListReader {
 public:
  FreeListReader(Reader& reader, const MiPage& page, MiFreeBlocks& free, Findings& findings)
      : reader_(reader), page_(page), free_(free), findings_(findings) {}

  // False, with a finding, if there is no block there, or one that was met before.
  bool mark(Addr at) {
    const std::uint64_t offset = at - page_.first_block;
    const std::uint64_t block = offset / page_.block_bytes;
    const bool inside = at >= page_.first_block && block < page_.capacity;
    if (!inside || offset % page_.block_bytes != 0 || free_.test(static_cast<std::uint32_t>(block))) {
      findings_.add({"mimalloc-freelist-damaged", Room::kPyobj, at,
                     fmt::format("a free list of the page at {:#x} {}", page_.first_block,
                                 inside ? "meets itself or points into a block" : "leaves the page")});
      return false;
    }
    free_.bits[block / 64] |= std::uint64_t{1} << (block % 64);
    ++free_.count;
    return true;
  }

  void follow(Addr at) {
    while (at != 0 && mark(at)) {
      if (reader_.try_load(at, at)) continue;
      findings_.add({"mimalloc-page-missing", Room::kPyobj, at,
                     "a free block of mimalloc's is not in the snapshot; those linked from it may count as in use"});
      return;
    }
  }

 private:
  Reader& reader_;
  const MiPage& page_;
  MiFreeBlocks& free_;
  Findings& findings_;
};

}  // namespace

namespace {

MiSegment read_segment(Reader& reader, const PyLayout& layout, Addr address, Findings& findings) {
  MiSegment segment;
  segment.address = address;
  std::uint64_t slices = 0;
  reader.try_load(address + layout.mi_segment_s.segment_slices.offset, slices);
  segment.bytes = slices * kSliceBytes;
  std::vector<std::byte> header(layout.mi_segment_s.size_bytes);
  if (!reader.read(address, header)) {
    findings.add({"mimalloc-segment-missing", Room::kPyobj, address,
                  "the header of a mimalloc segment is not wholly in the snapshot; its pages are left out"});
    segment.lost_bytes = segment.bytes;
  } else {
    SegmentReader(header, layout, segment, findings).run();
  }
  return segment;
}

// Do all slices lead from one to the next, and all pages' free lists agree with what the pages say is in use?
bool is_sound_segment(Reader& reader, const PyLayout& layout, Addr address) {
  Findings findings;
  MiFreeBlocks free;
  const MiSegment segment = read_segment(reader, layout, address, findings);
  for (const MiPage& page : segment.pages) read_free_blocks(reader, page, {}, free, findings);
  return !segment.pages.empty() && !findings.incomplete();
}

}  // namespace

void find_mimalloc(const Snapshot& snapshot, PyRuntime& runtime) {
  const PyLayout& layout = *runtime.traits.layout;
  if (layout.mi_segment_s.size_bytes == 0 || layout.mi_page_s.size_bytes == 0) return;
  Reader reader(snapshot.space);
  MimallocPlace place;
  place.heaps = thread_heaps(reader, runtime);
  place.located_by = "thread states";
  SegmentSearch search(snapshot, layout);
  std::optional<std::uint64_t> cookie = search.process_cookie(place.heaps);
  // With the GIL the heaps are in no thread state, but each page knows its own.
  const bool by_structure = runtime.traits.obmalloc_home != ObmallocHome::kNowhere;
  if (by_structure) {
    place.located_by = "structure";
    cookie = search.cookie_by_structure([&](Addr at) { return is_sound_segment(reader, layout, at); });
  }
  if (!cookie) return;
  place.segments = search.segments(*cookie);
  if (place.segments.empty()) return;
  runtime.mimalloc = std::move(place);
  if (!by_structure) return;
  std::set<Addr> heaps;
  Findings reported_elsewhere;
  for (const MiSegment& segment : read_mi_segments(reader, runtime, reported_elsewhere)) {
    for (const MiPage& page : segment.pages) heaps.insert(page.owner);
  }
  heaps.erase(0);
  runtime.mimalloc->heaps.assign(heaps.begin(), heaps.end());
}

std::vector<MiSegment> read_mi_segments(Reader& reader, const PyRuntime& runtime, Findings& findings) {
  std::vector<MiSegment> segments;
  if (!runtime.mimalloc) return segments;
  const PyLayout& layout = *runtime.traits.layout;
  for (const Addr address : runtime.mimalloc->segments)
    segments.push_back(read_segment(reader, layout, address, findings));
  return segments;
}

std::vector<Addr> read_delayed_frees(Reader& reader, const PyRuntime& runtime, Findings& findings) {
  std::vector<Addr> blocks;
  if (!runtime.mimalloc) return blocks;
  std::unordered_set<Addr> seen;
  for (const Addr heap : runtime.mimalloc->heaps) {
    Addr at = 0;
    reader.try_load(heap + runtime.traits.layout->mi_heap_s.thread_delayed_free.offset, at);
    while (at != 0) {
      Addr next = 0;
      if (seen.size() >= kMaxDelayedFrees || !reader.try_load(at, next) || !seen.insert(at).second) {
        findings.add({"mimalloc-delayed-damaged", Room::kPyobj, at,
                      "the list of blocks that other threads freed breaks off here, or meets itself"});
        break;
      }
      at = next;
    }
  }
  blocks.assign(seen.begin(), seen.end());
  std::sort(blocks.begin(), blocks.end());
  return blocks;
}

void read_free_blocks(Reader& reader, const MiPage& page, std::span<const Addr> delayed, MiFreeBlocks& free,
                      Findings& findings) {
  free.bits.assign((page.capacity + 63) / 64, 0);
  free.count = 0;
  FreeListReader lists(reader, page, free, findings);
  lists.follow(page.free);
  lists.follow(page.local_free);
  if (page.capacity - free.count != page.used) {
    findings.add({"mimalloc-count-disagrees", Room::kPyobj, page.address,
                  fmt::format("the page at {:#x} says {} blocks are in use, its free lists leave {}", page.first_block,
                              page.used, page.capacity - free.count)});
  }
  lists.follow(page.thread_free);
  const Addr end = page.first_block + page.capacity * page.block_bytes;
  for (auto at = std::lower_bound(delayed.begin(), delayed.end(), page.first_block); at != delayed.end() && *at < end;
       ++at) {
    lists.mark(*at);
  }
}

std::uint64_t check_mi_heaps(const Snapshot& snapshot, const PyRuntime& runtime, Findings& findings) {
  if (!runtime.mimalloc) return 0;
  Reader reader(snapshot.space);
  Findings reported_elsewhere;
  std::unordered_map<Addr, std::uint64_t> owned;
  for (const MiSegment& segment : read_mi_segments(reader, runtime, reported_elsewhere)) {
    for (const MiPage& page : segment.pages) ++owned[page.owner];
  }
  for (const Addr heap : runtime.mimalloc->heaps) {
    std::uint64_t pages = 0;
    if (!reader.try_load(heap + runtime.traits.layout->mi_heap_s.page_count.offset, pages) || pages == owned[heap])
      continue;
    findings.add({"mimalloc-heap-disagrees", Room::kPyobj, heap,
                  fmt::format("a heap of mimalloc's says it has {} pages; {} were found", pages, owned[heap])});
  }
  return runtime.mimalloc->heaps.size();
}

std::optional<ObmallocUse> summarise_allocator(const Snapshot& snapshot, const PyRuntime& runtime, Findings& findings) {
  if (runtime.mimalloc) return summarise_mimalloc(snapshot, runtime, findings);
  if (runtime.arenas) return summarise_obmalloc(snapshot, runtime, findings);
  return std::nullopt;
}

ObmallocUse summarise_mimalloc(const Snapshot& snapshot, const PyRuntime& runtime, Findings& findings) {
  ObmallocUse use;
  use.allocator = "mimalloc";
  if (!runtime.mimalloc) return use;
  Reader reader(snapshot.space);
  use.arena_bytes = kSegmentAlign;
  use.pool_bytes = kSliceBytes;
  use.located_by = runtime.mimalloc->located_by;
  const std::vector<Addr> delayed = read_delayed_frees(reader, runtime, findings);
  std::map<std::uint64_t, PoolClass> classes;
  MiFreeBlocks free;
  for (const MiSegment& segment : read_mi_segments(reader, runtime, findings)) {
    ArenaUse arena;
    arena.arena.address = segment.address;
    arena.bytes = segment.bytes;
    std::uint64_t accounted = segment.info_bytes + segment.lost_bytes;
    for (const MiPage& page : segment.pages) {
      read_free_blocks(reader, page, delayed, free, findings);
      const std::uint64_t in_use = page.capacity - free.count;
      PoolClass& size_class = classes[page.block_bytes];
      size_class.block_bytes = page.block_bytes;
      ++size_class.pools;
      size_class.blocks_in_use += in_use;
      size_class.blocks_free += page.reserved - in_use;
      ++arena.pools;
      arena.blocks_in_use += in_use;
      arena.bytes_in_use += in_use * page.block_bytes;
      use.bytes_free += (page.reserved - in_use) * page.block_bytes;
      accounted += page.span_bytes;
    }
    const std::uint64_t free_slices = segment.bytes - std::min(accounted, segment.bytes);
    arena.free_pools = free_slices / kSliceBytes;
    use.bytes_free_pools += free_slices;
    use.bytes_lost += segment.lost_bytes;
    use.bytes += segment.bytes;
    use.pools += arena.pools;
    use.free_pools += arena.free_pools;
    use.blocks_in_use += arena.blocks_in_use;
    use.bytes_in_use += arena.bytes_in_use;
    use.arenas.push_back(arena);
  }
  for (const auto& [block_bytes, size_class] : classes) use.classes.push_back(size_class);
  use.bytes_free += use.bytes_free_pools;
  use.bytes_overhead = use.bytes - use.bytes_in_use - use.bytes_free - use.bytes_lost;
  return use;
}

}  // namespace heapcore
