#include "glibc_heap/census.h"

#include <fmt/format.h>
#include <tbb/parallel_for.h>

#include <cstring>

#include "glibc_heap/chunks.h"
#include "glibc_heap/parts.h"

namespace heapcore {
namespace {

// What malloc_trim(0) releases of the free chunks, fed with chunks in address order. It consolidates the fastbins
// first, so that neighbouring free chunks count as one; of each it gives back the whole pages behind the first
// sizeof(malloc_chunk) bytes (mtrim, glibc 2.36; the same from 2.8 to 2.44).
class TrimForecast {
 public:
  enum class Tcaches : std::uint8_t { kAsTheyAre, kEmptied };

  // The second kind only counts: it does not look which pages hold zeros.
  TrimForecast(const Heap& heap, Reader& reader, Tcaches tcaches)
      : reader_(reader),
        page_bytes_(heap.page_bytes),
        links_bytes_(heap.layout.malloc_chunk.size_bytes),
        emptied_(tcaches == Tcaches::kEmptied) {}

  void see(const Chunk& chunk) {
    if (chunk.state == ChunkState::kInUse || (chunk.state == ChunkState::kTcache && !emptied_)) {
      close();
    } else if (chunk.state != ChunkState::kTop) {
      if (run_bytes_ == 0) run_start_ = chunk.address;
      run_bytes_ += chunk.size_bytes;
    }
  }
  // Of a run that reaches top malloc makes a part of top.
  std::uint64_t run_before_top() const { return run_bytes_; }

  void close() {
    if (run_bytes_ >= page_bytes_ + links_bytes_) {
      const Addr first = align_up(run_start_ + links_bytes_, page_bytes_);
      const Addr end = run_start_ + run_bytes_;
      if (end > first) released_bytes_ += release({first, first + align_down(end - first, page_bytes_)});
    }
    run_bytes_ = 0;
  }
  std::uint64_t released_bytes() const { return released_bytes_; }
  std::uint64_t nonzero_bytes() const { return nonzero_bytes_; }

  // Pages that go back; returns their bytes.
  std::uint64_t release(AddrRange pages) {
    if (emptied_) return pages.size_bytes();
    const AddressSpace& space = reader_.space();
    for (Addr page = pages.start; page < pages.end;) {
      const Segment* segment = space.find(page);
      if (segment != nullptr && segment->bytes != nullptr) {
        if (!reads_as_zeros(page)) nonzero_bytes_ += page_bytes_;
        page += page_bytes_;
        continue;
      }
      // A run of pages that the snapshot lacks: zeros, if it knows so, and anything otherwise.
      const Addr next = std::min(pages.end, align_up(segment == nullptr ? pages.end : segment->end, page_bytes_));
      if (space.state(page) != ByteState::kZeroFill) nonzero_bytes_ += next - page;
      page = next;
    }
    return pages.size_bytes();
  }

 private:
  bool reads_as_zeros(Addr page) {
    const std::span<const std::byte> bytes = reader_.span(page, page_bytes_);
    if (bytes.empty()) return reader_.space().state(page) == ByteState::kZeroFill;
    // All equal to the byte before, and the first is zero.
    return bytes[0] == std::byte{0} && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
  }

  Reader& reader_;
  std::uint64_t page_bytes_;
  std::uint64_t links_bytes_;
  bool emptied_;
  Addr run_start_ = 0;
  std::uint64_t run_bytes_ = 0;
  std::uint64_t released_bytes_ = 0;
  std::uint64_t nonzero_bytes_ = 0;
};

// What systrim(0) takes off the end of the main arena's top: whole pages, leaving MINSIZE and a byte. Only if nobody
// else moved the break meanwhile.
std::uint64_t top_release(const Snapshot& snapshot, const Heap& heap, const Region& region, std::uint64_t top_bytes) {
  if (!heap.arenas[region.arena].is_main || !region.from_brk || top_bytes <= kMinChunkBytes + 1) return 0;
  const Mapping* mapping = snapshot.mapping_at(region.range.end - 1);
  if (mapping != nullptr && mapping->end != region.range.end) return 0;
  const std::uint64_t unit = heap.par.thp_page_bytes != 0 ? heap.par.thp_page_bytes : heap.page_bytes;
  return align_down(top_bytes - kMinChunkBytes - 1, unit);
}

struct RegionCount {
  ArenaTotals totals;
  Findings findings;
};

RegionCount count_region(const Snapshot& snapshot, const Heap& heap, const Region& region) {
  RegionCount out;
  Reader reader(snapshot.space);
  TrimForecast forecast(heap, reader, TrimForecast::Tcaches::kAsTheyAre);
  TrimForecast emptied(heap, reader, TrimForecast::Tcaches::kEmptied);
  std::uint64_t before_top = 0;
  std::uint64_t emptied_before_top = 0;
  std::uint64_t visited_bytes = 0;
  const RegionWalk walk = for_each_chunk(heap, reader, region, out.findings, [&](const Chunk& chunk) {
    out.totals.of(chunk.state).add(chunk.size_bytes);
    visited_bytes += chunk.size_bytes;
    if (chunk.state == ChunkState::kTop) {
      before_top = forecast.run_before_top();
      emptied_before_top = emptied.run_before_top();
    }
    forecast.see(chunk);
    emptied.see(chunk);
  });
  out.totals.overhead_bytes = region.overhead_bytes + walk.fencepost_bytes + walk.foreign_bytes;
  out.totals.lost_bytes = walk.lost_bytes;
  if (region.has_top) {
    const std::uint64_t top_bytes = region.range.end - heap.arenas[region.arena].top;
    const std::uint64_t released = top_release(snapshot, heap, region, top_bytes + before_top);
    out.totals.trim_top_bytes = forecast.release({region.range.end - released, region.range.end});
    out.totals.held_back_bytes = top_release(snapshot, heap, region, top_bytes + emptied_before_top);
  } else {
    forecast.close();
    emptied.close();
  }
  out.totals.trim_chunks_bytes = forecast.released_bytes();
  out.totals.held_back_bytes += emptied.released_bytes() - out.totals.trim_bytes();
  out.totals.trim_nonzero_bytes = forecast.nonzero_bytes();
  const std::uint64_t walked = visited_bytes + walk.fencepost_bytes + walk.foreign_bytes + walk.lost_bytes;
  if (walked != region.range.size_bytes()) {
    out.findings.add({"region-unbalanced", Room::kGlibcHeap, region.range.start,
                      fmt::format("{} bytes, of which {} are accounted for", region.range.size_bytes(), walked), true});
  }
  return out;
}

// A list that does not hold exactly the chunks of its kind that the walk met.
void compare(Target& target, const Arena& arena, unsigned first_bin, unsigned last_bin, ChunkState state,
             const Heap& heap) {
  CountBytes listed;
  bool whole = true;
  for (unsigned bin = first_bin; bin <= last_bin; ++bin) {
    const bool closed = walk_bin(target, heap, arena, bin, [&](Addr chunk) {
      const std::uint64_t size = target.reader.load<std::uint64_t>(chunk + 8).value_or(0) & ~kSizeFlags;
      if (bin != 1 && (size < kMinChunkBytes || bin_index(size) != bin)) {
        target.damage("bin-bad-entry", chunk, fmt::format("a chunk of {} bytes is in bin {}", size, bin));
      }
      listed.add(size);
    });
    whole = whole && closed;
  }
  const CountBytes& walked = arena.totals.of(state);
  if (!whole || listed == walked) return;
  target.damage("walk-list-disagree", arena.address,
                fmt::format("bins {} to {} hold {} chunks of {} bytes, the walk met {} of {}", first_bin, last_bin,
                            listed.count, listed.bytes, walked.count, walked.bytes));
}

}  // namespace

void count_chunks(const Snapshot& snapshot, Heap& heap, Findings& findings) {
  std::vector<RegionCount> counts(heap.regions.size());
  tbb::parallel_for(std::size_t{0}, heap.regions.size(),
                    [&](std::size_t i) { counts[i] = count_region(snapshot, heap, heap.regions[i]); });
  for (Arena& arena : heap.arenas) arena.totals = {};
  for (std::size_t i = 0; i < counts.size(); ++i) {
    heap.arenas[heap.regions[i].arena].totals += counts[i].totals;
    findings.merge(counts[i].findings);
  }
}

void check_bins(const Snapshot& snapshot, const Heap& heap, Findings& findings) {
  Target target{snapshot, Reader(snapshot.space), findings, nullptr, {}, {}};
  constexpr unsigned kFirstLargeBin = 64;
  for (const Arena& arena : heap.arenas) {
    if (arena.system_bytes == 0) continue;
    compare(target, arena, 2, kFirstLargeBin - 1, ChunkState::kSmall, heap);
    compare(target, arena, kFirstLargeBin, kBins - 1, ChunkState::kLarge, heap);
  }
}

}  // namespace heapcore
