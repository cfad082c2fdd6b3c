#include "glibc_heap/chunks.h"

#include <fmt/format.h>

#include <algorithm>

namespace heapcore {
namespace {

// How far a run of sizes must lead before it is believed, and how far it is followed to pass a damaged place.
constexpr unsigned kBelievableSteps = 16;
constexpr unsigned kPassingSteps = 256;
constexpr std::uint64_t kFencepostBytes = 2 * kChunkHeaderBytes;

}  // namespace

RegionSweep::RegionSweep(const Heap& heap, Reader& reader, const Region& region, Findings& findings)
    : heap_(heap), reader_(reader), region_(region), findings_(findings) {
  const Arena& arena = heap.arenas[region.arena];
  forbidden_ = 8 | kIsMmapped | (arena.is_main ? kNonMainArena : 0);
  const std::uint64_t size = region.range.size_bytes();
  if (region.has_top) {
    limit_ = arena.top;
  } else {
    limit_ = region.range.end - std::min(kFencepostBytes, size);
  }
  const auto first = std::lower_bound(heap.free_listed.begin(), heap.free_listed.end(), region.range.start);
  advance_listed(static_cast<std::size_t>(first - heap.free_listed.begin()));
}

void RegionSweep::advance_listed(std::size_t index) {
  listed_index_ = index;
  const bool ours = index < heap_.free_listed.size() && listed_address(heap_.free_listed[index]) < region_.range.end;
  next_listed_ = ours ? listed_address(heap_.free_listed[index]) : ~Addr{0};
}

bool RegionSweep::reach(Addr address, std::uint64_t& prev_size, std::uint64_t& word) {
  const std::span<const std::byte> bytes = reader_.span_to_end(address);
  if (bytes.size() >= kChunkHeaderBytes) {
    span_start_ = address;
    // The header that ends the region may be read, nothing behind it.
    span_size_ = std::min<std::uint64_t>(bytes.size(), region_.range.end - address);
    span_ = bytes.data();
    if (span_size_ >= kChunkHeaderBytes) {
      std::memcpy(&prev_size, span_, sizeof prev_size);
      std::memcpy(&word, span_ + 8, sizeof word);
      return true;
    }
  }
  return reader_.try_load(address, prev_size) && reader_.try_load(address + 8, word);
}

RegionSweep::Position RegionSweep::begin() {
  const Addr start = region_.range.start;
  if (start >= limit_) return {limit_, 0};
  std::uint64_t prev_size = 0;
  std::uint64_t word = 0;
  Position resume;
  if (header(start, prev_size, word)) {
    if (plausible(start, word)) return {start, word};
    if (fencepost(start, word, resume)) return resume;
    findings_.add(
        {"chunk-bad-size", Room::kGlibcHeap, start, fmt::format("the first chunk's size field is {:#x}", word), true});
  }
  return skip_damage(start);
}

ChunkState RegionSweep::classify_listed(Addr address, std::uint64_t size, std::uint64_t next_word) {
  report_unreached(address);
  const bool free_by_header = (next_word & kPrevInUse) == 0;
  if (next_listed_ != address) {
    if (!free_by_header) return ChunkState::kInUse;
    return size < kMinLargeChunkBytes ? ChunkState::kSmall : ChunkState::kLarge;
  }
  const ChunkState state = listed_state(heap_.free_listed[listed_index_]);
  if (free_by_header != (state == ChunkState::kUnsorted)) {
    findings_.add({"walk-list-disagree", Room::kGlibcHeap, address,
                   state == ChunkState::kUnsorted ? "a chunk of the unsorted list is marked as in use"
                                                  : "a chunk of a tcache or fastbin is marked as free",
                   true});
  }
  std::size_t after = listed_index_ + 1;
  while (after < heap_.free_listed.size() && listed_address(heap_.free_listed[after]) == address) {
    findings_.add(
        {"chunk-listed-twice", Room::kGlibcHeap, address, "a chunk is on two free lists, or twice on one", true});
    ++after;
  }
  advance_listed(after);
  return state;
}

// Listed chunks below `until` that the walk has passed without meeting them.
void RegionSweep::report_unreached(Addr until) {
  while (next_listed_ < until) {
    findings_.add({"walk-list-disagree", Room::kGlibcHeap, next_listed_,
                   "a free list holds this address, but no chunk begins here", true});
    advance_listed(listed_index_ + 1);
  }
}

void RegionSweep::report_prev_size(Addr address, std::uint64_t size, std::uint64_t next_prev_size) {
  findings_.add({"chunk-prev-size-mismatch", Room::kGlibcHeap, address,
                 fmt::format("a free chunk of {} bytes is followed by one that says {}", size, next_prev_size), true});
}

// Recognises the artificial chunks that end a region, or that divide the main arena where others used sbrk in between.
// Thread heaps end in {0x10, 0x1}, preceded by a chunk of 0x20 instead if less than MINSIZE was left; the main arena's
// parts end in two or three of 0x11 (sysmalloc, glibc 2.36).
bool RegionSweep::fencepost(Addr address, std::uint64_t word, Position& resume) {
  const std::uint64_t size = word & ~kSizeFlags;
  const std::uint64_t left = region_.range.end - address;
  if (!region_.has_top && left <= 3 * kChunkHeaderBytes && (size == kChunkHeaderBytes || size == kMinChunkBytes)) {
    if (address < limit_) walk_.fencepost_bytes += limit_ - address;
    resume = {limit_, 0};
    return true;
  }
  if (size != kChunkHeaderBytes || !heap_.arenas[region_.arena].is_main) return false;
  Addr end = address;
  std::uint64_t prev_size = 0;
  std::uint64_t at = word;
  while ((at & ~kSizeFlags) == kChunkHeaderBytes && end < limit_ && end - address < 3 * kChunkHeaderBytes) {
    end += kChunkHeaderBytes;
    if (end >= limit_ || !header(end, prev_size, at)) break;
  }
  if (end - address < kFencepostBytes) return false;
  walk_.fencepost_bytes += end - address;
  resume = search(end, limit_, 0);
  walk_.foreign_bytes += resume.address - end;
  findings_.note(
      "main-arena-gap", Room::kGlibcHeap, end,
      fmt::format("{} bytes inside the main arena were taken by another caller of sbrk", resume.address - end));
  return true;
}

RegionSweep::Detour RegionSweep::irregular(Position at) {
  const std::uint64_t size = at.word & ~kSizeFlags;
  const Addr next = at.address + size;
  std::uint64_t prev_size = 0;
  std::uint64_t word = 0;
  Detour detour;
  if (!header(next, prev_size, word)) {
    // What follows is not there; the lists alone can say that this chunk is free.
    detour.visit = true;
    detour.state = classify(at.address, size, 0, kPrevInUse);
    detour.resume = skip_damage(next);
    return detour;
  }
  if (fencepost(next, word, detour.resume)) {
    detour.visit = true;
    detour.state = classify(at.address, size, prev_size, word);
    return detour;
  }
  // Either this chunk's size is wrong, and then sizes lead on from somewhere inside it past the bad place, or `next`
  // is.
  const Position inside = search(at.address + kMinChunkBytes, next, next);
  if (inside.address < next) {
    findings_.add({"chunk-bad-size", Room::kGlibcHeap, at.address,
                   fmt::format("the size {} leads to no chunk; {} bytes are lost", size, inside.address - at.address),
                   true});
    walk_.lost_bytes += inside.address - at.address;
    report_unreached(inside.address);
    detour.resume = inside;
    return detour;
  }
  detour.visit = true;
  detour.state = classify(at.address, size, prev_size, kPrevInUse);
  const std::uint64_t lost_before = walk_.lost_bytes;
  detour.resume = skip_damage(next);
  findings_.add({"chunk-bad-size", Room::kGlibcHeap, next,
                 fmt::format("the size field is {:#x}; {} bytes are lost", word, walk_.lost_bytes - lost_before),
                 true});
  return detour;
}

// Finds where to go on at or after `from`, and counts what is skipped as lost.
RegionSweep::Position RegionSweep::skip_damage(Addr from) {
  const Position found = search(from, limit_, 0);
  walk_.lost_bytes += found.address - from;
  const Addr present = next_present(from);
  if (present != from) {
    findings_.add({"heap-not-dumped", Room::kGlibcHeap, from,
                   fmt::format("{} bytes of an arena are not in the core", std::min(present, limit_) - from), true});
  }
  return found;
}

// The lowest aligned address in [from, until) at which a believable run of chunks begins; {until, 0} if none does, or
// {limit, 0} where that comes first. With `must_pass`, the run must lead past that address without touching it.
RegionSweep::Position RegionSweep::search(Addr from, Addr until, Addr must_pass) {
  until = std::min(until, limit_);
  Addr address = align_up(from, kChunkAlignment);
  while (address < until) {
    std::uint64_t prev_size = 0;
    std::uint64_t word = 0;
    const bool there = header(address, prev_size, word);
    const bool stored = address - span_start_ + kChunkHeaderBytes <= span_size_;
    if (!there || (!stored && word == 0)) {  // nothing begins in memory that is not there, or known to be zero
      address =
          std::max(align_up(next_stored(address + kChunkHeaderBytes), kChunkAlignment), address + kChunkAlignment);
      continue;
    }
    if (plausible(address, word) && leads_on(address, word, must_pass)) return {address, word};
    address += kChunkAlignment;
  }
  return {until, 0};
}

bool RegionSweep::leads_on(Addr address, std::uint64_t word, Addr must_pass) {
  const unsigned steps = must_pass != 0 ? kPassingSteps : kBelievableSteps;
  for (unsigned step = 0; step < steps; ++step) {
    const std::uint64_t size = word & ~kSizeFlags;
    const Addr next = address + size;
    if (next == must_pass) return false;
    if (next == limit_) return true;
    std::uint64_t prev_size = 0;
    if (!header(next, prev_size, word)) return step > 0;
    const std::uint64_t next_size = word & ~kSizeFlags;
    if (next_size == kChunkHeaderBytes && limit_ - next <= kChunkHeaderBytes) return true;
    if (!plausible(next, word)) return false;
    if ((word & kPrevInUse) == 0 && prev_size != size) return false;
    address = next;
  }
  return true;
}

// The lowest address >= from in the region of which bytes are stored; the region's end if none is.
Addr RegionSweep::next_stored(Addr from) const {
  const std::span<const Segment> segments = reader_.space().segments();
  for (std::size_t i = reader_.space().lower_index(from); i < segments.size(); ++i) {
    if (segments[i].start >= region_.range.end) break;
    if (segments[i].state == ByteState::kPresent) return std::max(from, segments[i].start);
  }
  return std::max(from, region_.range.end);
}

// The lowest address >= from in the region whose value is known, if only to be zero; the region's end if none is.
Addr RegionSweep::next_present(Addr from) const {
  const std::span<const Segment> segments = reader_.space().segments();
  for (std::size_t i = reader_.space().lower_index(from); i < segments.size(); ++i) {
    if (segments[i].start >= region_.range.end) break;
    const bool known = segments[i].state == ByteState::kPresent || segments[i].state == ByteState::kZeroFill;
    if (known) return std::max(from, segments[i].start);
  }
  return std::max(from, region_.range.end);
}

RegionWalk RegionSweep::finish() {
  report_unreached(region_.range.end);
  if (!region_.has_top) walk_.fencepost_bytes += region_.range.end - limit_;
  return walk_;
}

std::optional<Chunk> chunk_at(const Heap& heap, Reader& reader, Addr address) {
  const Region* region = heap.region_at(address);
  if (region == nullptr) return std::nullopt;
  std::optional<Chunk> found;
  Findings unused;
  for_each_chunk(heap, reader, *region, unused, [&](const Chunk& chunk) {
    if (address - chunk.address < chunk.size_bytes) found = chunk;
  });
  return found;
}

}  // namespace heapcore
