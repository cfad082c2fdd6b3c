// The chunks on the lists that chunk headers alone do not show: tcaches, fastbins, unsorted.
#include <fmt/format.h>
#include <tbb/parallel_for.h>
#include <tbb/parallel_sort.h>

#include <algorithm>

#include "glibc_heap/list_cursor.h"
#include "glibc_heap/parts.h"

namespace heapcore {
namespace {

using TcacheLayout = decltype(GlibcLayout::tcache_perthread_struct);

constexpr std::size_t kLinksAsked = 4096;

std::string_view text_of(ListEnd end) {
  switch (end) {
    case ListEnd::kGoesOn:
    case ListEnd::kWhole:
      return "is whole";
    case ListEnd::kOutside:
      return "leads out of the heap";
    case ListEnd::kLoop:
      return "runs into itself";
    case ListEnd::kUnreadable:
      return "leads to memory that is not there";
  }
  return "";
}

// A list that ran into itself was read more than once.
void keep_each_once(std::vector<ListedChunk>& listed, std::size_t from) {
  const auto first = listed.begin() + static_cast<std::ptrdiff_t>(from);
  std::sort(first, listed.end());
  listed.erase(std::unique(first, listed.end()), listed.end());
}

class TcacheLister {
 public:
  TcacheLister(Target& target, Heap& heap) : target_(target), heap_(heap) {}

  void run() {
    settle_link_encoding();
    for (Tcache& tcache : heap_.tcaches) list_tcache(tcache);
  }

 private:
  Reader& reader() { return target_.reader; }
  Addr tcache_head(const Tcache& tcache, std::uint64_t bin);
  std::uint64_t tcache_bins() const { return heap_.layout.tcache_perthread_struct.entries.width_bytes / 8; }
  std::uint64_t fastbins() const { return heap_.layout.malloc_state.fastbinsY.width_bytes / 8; }
  void settle_link_encoding();
  void list_tcache(Tcache& tcache);
  void check_tcache_count(const Tcache& tcache, std::uint64_t bin, std::uint64_t found);

  Target& target_;
  Heap& heap_;
};

Addr TcacheLister::tcache_head(const Tcache& tcache, std::uint64_t bin) {
  const Field entries = heap_.layout.tcache_perthread_struct.entries;
  return reader().load<Addr>(tcache.address + entries.offset + 8 * bin).value_or(0);
}

// Every list ends in a null link, and safe-linking never stores it as 0: each first link says which of the two it is.
void TcacheLister::settle_link_encoding() {
  std::size_t plain = 0;
  std::size_t safe = 0;
  const auto ask = [&](Addr field) {
    std::uint64_t stored = 0;
    if (plain + safe >= kLinksAsked || !reader().try_load(field, stored)) return;
    const auto leads_on = [&](LinkEncoding links) {
      const Addr target = decode_link(links, field, stored);
      return target == 0 || (is_aligned(target, kChunkAlignment) && heap_.region_at(target) != nullptr);
    };
    const bool is_plain = leads_on(LinkEncoding::kPlain);
    const bool is_safe = leads_on(LinkEncoding::kSafeLinking);
    if (is_plain && !is_safe) ++plain;
    if (is_safe && !is_plain) ++safe;
  };
  for (const Tcache& tcache : heap_.tcaches) {
    for (std::uint64_t bin = 0; bin < kSmallTcacheBins && bin < tcache_bins(); ++bin) {
      if (const Addr entry = tcache_head(tcache, bin)) ask(entry);
    }
  }
  for (const Arena& arena : heap_.arenas) {
    for (std::uint64_t i = 0; i < fastbins(); ++i) {
      const Addr head = arena.address + heap_.layout.malloc_state.fastbinsY.offset + 8 * i;
      if (const Addr chunk = reader().load<Addr>(head).value_or(0)) ask(chunk + kChunkHeaderBytes);
    }
  }
  if (plain != safe) heap_.traits.links = safe > plain ? LinkEncoding::kSafeLinking : LinkEncoding::kPlain;
}

void TcacheLister::list_tcache(Tcache& tcache) {
  for (std::uint64_t bin = 0; bin < tcache_bins(); ++bin) {
    const Addr head = tcache_head(tcache, bin);
    const bool small = bin < kSmallTcacheBins;
    // Since 2.42 the bins of large chunks may hold mmapped ones, which are not ours to walk.
    if (!small && (head == 0 || heap_.region_at(head - kChunkHeaderBytes) == nullptr)) continue;
    const std::uint64_t expected = kMinChunkBytes + kChunkAlignment * bin;
    const std::size_t before = heap_.free_listed.size();
    CountBytes held;
    ListCursor cursor(heap_, reader(), head, kChunkHeaderBytes);
    ListEnd end = ListEnd::kWhole;
    while ((end = cursor.step()) == ListEnd::kGoesOn) {
      if (small && cursor.size_bytes() != expected) {
        target_.damage("tcache-bad-entry", cursor.chunk(),
                       fmt::format("a chunk of {} bytes is on the tcache's list of {}", cursor.size_bytes(), expected));
      }
      held.add(cursor.size_bytes());
      heap_.free_listed.push_back(listed_chunk(cursor.chunk(), ChunkState::kTcache));
    }
    if (end != ListEnd::kWhole) {
      if (end == ListEnd::kLoop) {
        keep_each_once(heap_.free_listed, before);
        held.count = heap_.free_listed.size() - before;
        held.bytes = held.count * expected;
      }
      target_.damage(end == ListEnd::kLoop ? "tcache-loop" : "tcache-bad-link", tcache.address,
                     fmt::format("the tcache's list of {} byte chunks {}", expected, text_of(end)));
    } else {
      check_tcache_count(tcache, bin, held.count);
    }
    tcache.chunks += held;
  }
}

void TcacheLister::check_tcache_count(const Tcache& tcache, std::uint64_t bin, std::uint64_t found) {
  const TcacheLayout& layout = heap_.layout.tcache_perthread_struct;
  std::uint64_t said = 0;
  switch (heap_.traits.tcache) {
    case TcacheKind::kNone:
      return;
    case TcacheKind::kCharCounts:
      said = reader().load<std::uint8_t>(tcache.address + layout.counts.offset + bin).value_or(0);
      break;
    case TcacheKind::kShortCounts:
      said = reader().load<std::uint16_t>(tcache.address + layout.counts.offset + 2 * bin).value_or(0);
      break;
    case TcacheKind::kSlotsLeft:
      return;  // the list is the truth: the free slots depend on when tcache_count was tuned
  }
  if (said == found) return;
  target_.damage("tcache-count-mismatch", tcache.address,
                 fmt::format("bin {} says {} chunks, its list has {}", bin, said, found));
}

// One arena's fastbins, or its unsorted list.
struct ArenaList {
  std::uint32_t arena = 0;
  ChunkState state = ChunkState::kFast;
  std::vector<ListedChunk> listed;
  Findings findings;
};

void list_fastbins(const Snapshot& snapshot, const Heap& heap, ArenaList& out) {
  const Field field = heap.layout.malloc_state.fastbinsY;
  const Addr heads = heap.arenas[out.arena].address + field.offset;
  Target target{snapshot, Reader(snapshot.space), out.findings, nullptr, {}, {}};
  struct Fastbin {
    ListCursor cursor;
    std::uint64_t index = 0;
  };
  std::vector<Fastbin> open;
  for (std::uint64_t i = 0; i < field.width_bytes / 8; ++i) {
    open.push_back({ListCursor(heap, target.reader, target.reader.load<Addr>(heads + 8 * i).value_or(0), 0), i});
  }
  bool looped = false;
  while (!open.empty()) {
    for (std::size_t i = 0; i < open.size();) {
      ListCursor& cursor = open[i].cursor;
      const std::uint64_t expected = kMinChunkBytes + kChunkAlignment * open[i].index;
      const ListEnd end = cursor.step();
      if (end == ListEnd::kGoesOn) {
        if (cursor.size_bytes() != expected || cursor.region()->arena != out.arena) {
          target.damage(
              "fastbin-bad-entry", cursor.chunk(),
              fmt::format("a chunk of {} bytes is on an arena's fastbin of {}", cursor.size_bytes(), expected));
        }
        out.listed.push_back(listed_chunk(cursor.chunk(), ChunkState::kFast));
        ++i;
        continue;
      }
      looped = looped || end == ListEnd::kLoop;
      if (end != ListEnd::kWhole) {
        target.damage(end == ListEnd::kLoop ? "fastbin-loop" : "fastbin-bad-link", heads + 8 * open[i].index,
                      fmt::format("the fastbin of {} byte chunks {}", expected, text_of(end)));
      }
      open.erase(open.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  if (looped) keep_each_once(out.listed, 0);
}

void list_unsorted(const Snapshot& snapshot, const Heap& heap, ArenaList& out) {
  Target target{snapshot, Reader(snapshot.space), out.findings, nullptr, {}, {}};
  walk_bin(target, heap, heap.arenas[out.arena], 1,
           [&](Addr chunk) { out.listed.push_back(listed_chunk(chunk, ChunkState::kUnsorted)); });
}

void list_arenas(Target& target, Heap& heap) {
  std::vector<ArenaList> lists;
  for (std::uint32_t i = 0; i < heap.arenas.size(); ++i) {
    if (heap.arenas[i].system_bytes == 0) continue;
    if (heap.traits.fastbins) lists.push_back({i, ChunkState::kFast, {}, {}});
    lists.push_back({i, ChunkState::kUnsorted, {}, {}});
  }
  tbb::parallel_for(std::size_t{0}, lists.size(), [&](std::size_t i) {
    if (lists[i].state == ChunkState::kFast) list_fastbins(target.snapshot, heap, lists[i]);
    if (lists[i].state == ChunkState::kUnsorted) list_unsorted(target.snapshot, heap, lists[i]);
  });
  for (const ArenaList& list : lists) {
    heap.free_listed.insert(heap.free_listed.end(), list.listed.begin(), list.listed.end());
    target.findings.merge(list.findings);
  }
}

}  // namespace

void find_free_lists(Target& target, Heap& heap) {
  TcacheLister(target, heap).run();
  list_arenas(target, heap);
  tbb::parallel_sort(heap.free_listed.begin(), heap.free_listed.end());
}

}  // namespace heapcore
