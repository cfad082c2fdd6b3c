// Chunks that malloc mapped by themselves. No list holds them; they are known by their headers at the start of a
// mapping, or of a page where the kernel merged neighbouring mappings into one.
#include <fmt/format.h>

#include <algorithm>

#include "glibc_heap/locate.h"
#include "glibc_heap/parts.h"

namespace heapcore {
namespace {

class MmappedFinder {
 public:
  MmappedFinder(const Snapshot& snapshot, Heap& heap) : snapshot_(snapshot), reader_(snapshot.space), heap_(heap) {}

  // The chunk whose mapping begins at this page and ends at or before `limit`.
  std::optional<MmappedChunk> at(Addr start, Addr limit);
  std::vector<AddrRange> anonymous_runs() const;
  std::vector<AddrRange> gaps(std::span<const AddrRange> skip) const;
  // First from each gap's start, chunk after chunk; then, while malloc's own count is not reached, at every other page.
  void scan(const std::vector<AddrRange>& gaps);

 private:
  std::optional<MmappedChunk> header_at(Addr start, std::uint64_t padding, Addr limit);
  std::optional<MmappedChunk> aligned_within(const MmappedChunk& whole);
  bool complete() const { return heap_.par.address != 0 && heap_.mmapped.size() >= heap_.par.n_mmaps; }

  const Snapshot& snapshot_;
  Reader reader_;
  Heap& heap_;
};

std::optional<MmappedChunk> MmappedFinder::header_at(Addr start, std::uint64_t padding, Addr limit) {
  const Addr chunk = start + padding;
  std::uint64_t prev_size = 0;
  std::uint64_t word = 0;
  if (!reader_.try_load(chunk + 8, word) || (word & (kSizeFlags | 8)) != kIsMmapped) return std::nullopt;
  if (!reader_.try_load(chunk, prev_size) || prev_size != padding) return std::nullopt;
  const std::uint64_t size = word & ~kSizeFlags;
  const std::uint64_t beyond = heap_.traits.mmapped == MmappedRule::kSizeLacksHeader ? kChunkHeaderBytes : 0;
  const std::optional<std::uint64_t> total = checked_add(size, padding + beyond);
  if (!total || *total > limit - start || !is_aligned(*total, heap_.page_bytes)) return std::nullopt;
  if (size < kMinChunkBytes) return std::nullopt;
  return MmappedChunk{{start, start + *total}, chunk, size};
}

// memalign moves the chunk forward to where the user's address is aligned, and leaves the first header as it was.
std::optional<MmappedChunk> MmappedFinder::aligned_within(const MmappedChunk& whole) {
  const Addr start = whole.mapping.start;
  for (std::uint64_t alignment = 2 * kChunkAlignment; alignment < whole.mapping.size_bytes(); alignment *= 2) {
    const Addr first = align_up(start + kChunkHeaderBytes, alignment);
    for (const Addr user : {first, first + alignment}) {
      const std::uint64_t padding = user - kChunkHeaderBytes - start;
      if (padding == 0 || padding >= whole.mapping.size_bytes()) continue;
      if (const auto found = header_at(start, padding, whole.mapping.end)) return found;
    }
  }
  return std::nullopt;
}

std::optional<MmappedChunk> MmappedFinder::at(Addr start, Addr limit) {
  std::optional<MmappedChunk> found = header_at(start, 0, limit);
  if (!found) return std::nullopt;
  if (const auto moved = aligned_within(*found); moved && moved->mapping == found->mapping) return moved;
  return found;
}

// Anonymous writable memory. Neighbours are joined: the kernel splits a mapping where part of it is advised or locked,
// as numpy does with large arrays.
std::vector<AddrRange> MmappedFinder::anonymous_runs() const {
  std::vector<AddrRange> out;
  for (const Mapping& mapping : snapshot_.mappings) {
    // A live target's anonymous memory can bear a name ("[anon:...]").
    const bool anonymous = mapping.path.empty() || mapping.path.starts_with("[anon");
    if (!anonymous || !mapping.writable || mapping.shared) continue;
    if (!out.empty() && out.back().end == mapping.start) {
      out.back().end = mapping.end;
    } else {
      out.push_back({mapping.start, mapping.end});
    }
  }
  return out;
}

// Anonymous writable memory less the heap's own regions and `skip`.
std::vector<AddrRange> MmappedFinder::gaps(std::span<const AddrRange> skip) const {
  std::vector<AddrRange> taken(skip.begin(), skip.end());
  for (const Arena& arena : heap_.arenas) taken.insert(taken.end(), arena.heaps.begin(), arena.heaps.end());
  std::sort(taken.begin(), taken.end(), [](const AddrRange& a, const AddrRange& b) { return a.start < b.start; });
  std::vector<AddrRange> out;
  for (const AddrRange& mapping : anonymous_runs()) {
    Addr at = mapping.start;
    auto claim =
        std::lower_bound(taken.begin(), taken.end(), at, [](const AddrRange& r, Addr a) { return r.end <= a; });
    for (; claim != taken.end() && claim->start < mapping.end; ++claim) {
      if (claim->start > at) out.push_back({at, align_down(claim->start, heap_.page_bytes)});
      at = std::max(at, align_up(claim->end, heap_.page_bytes));
    }
    if (at < mapping.end) out.push_back({at, mapping.end});
  }
  std::erase_if(out, [](const AddrRange& r) { return r.start >= r.end; });
  return out;
}

void MmappedFinder::scan(const std::vector<AddrRange>& gaps) {
  std::vector<AddrRange> rest;
  for (const AddrRange& gap : gaps) {
    Addr at = gap.start;
    while (at < gap.end) {
      const std::optional<MmappedChunk> found = this->at(at, gap.end);
      if (!found) break;
      heap_.mmapped.push_back(*found);
      at = found->mapping.end;
    }
    if (at < gap.end) rest.push_back({at, gap.end});
  }
  for (const AddrRange& range : rest) {
    Addr at = range.start;
    while (at < range.end && !complete()) {
      at = align_up(std::min(snapshot_.space.next_present(at), range.end), heap_.page_bytes);
      const std::optional<MmappedChunk> found = this->at(at, range.end);
      if (found) heap_.mmapped.push_back(*found);
      at = found ? found->mapping.end : at + heap_.page_bytes;
    }
  }
  std::sort(heap_.mmapped.begin(), heap_.mmapped.end(),
            [](const MmappedChunk& a, const MmappedChunk& b) { return a.address < b.address; });
}

}  // namespace

void find_mmapped(const Snapshot& snapshot, std::span<const AddrRange> skip, Heap& heap, Findings& findings) {
  MmappedFinder finder(snapshot, heap);
  heap.mmapped.clear();
  finder.scan(finder.gaps(skip));
  if (heap.par.address == 0) return;
  const CountBytes total = heap.mmapped_total();
  // Since 2.43 mmapped_mem drifts with every mremap; the count stays right.
  const bool exact = heap.traits.mmapped == MmappedRule::kSizeFillsMapping;
  if (total.count != heap.par.n_mmaps || (exact && total.bytes != heap.par.mmapped_bytes)) {
    findings.add({"mmapped-mismatch", Room::kGlibcHeap, heap.par.address,
                  fmt::format("malloc counts {} mmapped chunks of {} bytes, {} of {} bytes were found",
                              heap.par.n_mmaps, heap.par.mmapped_bytes, total.count, total.bytes),
                  true});
  }
}

}  // namespace heapcore
