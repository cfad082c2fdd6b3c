// The tcaches, and the chunks on the lists that chunk headers alone do not show: tcaches, fastbins, unsorted.
#include <fmt/format.h>
#include <tbb/parallel_for.h>
#include <tbb/parallel_sort.h>

#include <algorithm>

#include "glibc_heap/chunks.h"
#include "glibc_heap/parts.h"

namespace heapcore {
namespace {

using TcacheLayout = decltype(GlibcLayout::tcache_perthread_struct);

constexpr std::uint64_t kTlsReachBytes = std::uint64_t{1} << 20;  // static TLS lies this close below the thread pointer
constexpr std::uint64_t kRawTlsBytes = 16384;                     // as far as is searched without the GOT's help
constexpr unsigned kSmallTcacheBins = 64;
constexpr std::size_t kLinksAsked = 4096;

// Whether a chunk of this size may hold the struct: 0x250, 0x290 or 0x300 as malloc rounds it, and one alignment step
// more where what was left over was too small to be a chunk.
bool may_hold(std::uint64_t chunk_bytes, const TcacheLayout& layout) {
  const std::uint64_t rounded = align_up(layout.size_bytes + 8, kChunkAlignment);
  return chunk_bytes == rounded || chunk_bytes == rounded + kChunkAlignment;
}

enum class ListEnd : std::uint8_t { kGoesOn, kWhole, kOutside, kLoop, kUnreadable };

// A place in a singly linked list of free chunks. Each step reads one chunk; several lists followed in turn overlap
// their waits for memory, which is what following a long list costs.
class ListCursor {
 public:
  // A link points `to_chunk` bytes behind the chunk's start.
  ListCursor(const Heap& heap, Reader& reader, Addr head, std::uint64_t to_chunk)
      : heap_(&heap), reader_(&reader), link_(head), to_chunk_(to_chunk) {}

  Addr chunk() const { return chunk_; }
  std::uint64_t size_bytes() const { return size_bytes_; }
  const Region* region() const { return region_; }

  // Moves to the next chunk; kGoesOn if there is one.
  ListEnd step() {
    if (link_ == 0) return ListEnd::kWhole;
    // Brent's: `mark_` is left behind at growing distances; a list that runs into itself meets it again.
    if (link_ == mark_) return ListEnd::kLoop;
    if (++steps_ == lap_) {
      mark_ = link_;
      lap_ *= 2;
    }
    chunk_ = link_ - to_chunk_;
    if (region_ == nullptr || !region_->range.contains(chunk_)) region_ = heap_->region_at(chunk_);
    if (region_ == nullptr || !is_aligned(link_, kChunkAlignment)) return ListEnd::kOutside;
    std::uint64_t word = 0;
    std::uint64_t stored = 0;
    const Addr field = chunk_ + kChunkHeaderBytes;
    if (!reader_->try_load(chunk_ + 8, word) || !reader_->try_load(field, stored)) return ListEnd::kUnreadable;
    size_bytes_ = word & ~kSizeFlags;
    link_ = decode_link(heap_->traits.links, field, stored);
    return ListEnd::kGoesOn;
  }

 private:
  const Heap* heap_;
  Reader* reader_;
  Addr link_;
  std::uint64_t to_chunk_;
  Addr chunk_ = 0;
  std::uint64_t size_bytes_ = 0;
  const Region* region_ = nullptr;
  Addr mark_ = 0;
  std::uint64_t steps_ = 0;
  std::uint64_t lap_ = 64;
};

// A list that ran into itself was read more than once.
void keep_each_once(std::vector<ListedChunk>& listed, std::size_t from) {
  const auto first = listed.begin() + static_cast<std::ptrdiff_t>(from);
  std::sort(first, listed.end());
  listed.erase(std::unique(first, listed.end()), listed.end());
}

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

class ListFinder {
 public:
  ListFinder(Target& target, Heap& heap) : target_(target), heap_(heap) {
    for (const GlibcTable& table : glibc_tables()) {
      const TcacheLayout& layout = table.layout.tcache_perthread_struct;
      if (layout.size_bytes == 0) continue;
      const bool known = std::any_of(layouts_.begin(), layouts_.end(), [&](const auto& l) { return l == layout; });
      if (!known) layouts_.push_back(layout);
    }
  }

  void run() {
    if (heap_.traits.tcache != TcacheKind::kNone) find_tcaches();
    settle_link_encoding();
    for (Tcache& tcache : heap_.tcaches) list_tcache(tcache);
  }

 private:
  Reader& reader() { return target_.reader; }

  const TcacheLayout* tcache_layout_at(Addr address);
  void find_tcaches();
  std::vector<std::int64_t> got_offsets();
  std::vector<Addr> tcaches_at(std::int64_t offset, bool& contradicted);
  bool try_offsets(const std::vector<std::int64_t>& offsets);
  bool thread_missing();
  void find_tcaches_in_arenas();
  void find_tcaches_by_slots();
  bool slots_agree(Addr address);
  bool contents_plausible(Addr address, const TcacheLayout& layout);
  void add_tcache(Addr address, std::int32_t tid);

  Addr tcache_head(const Tcache& tcache, std::uint64_t bin);
  unsigned tcache_bins() const { return heap_.layout.tcache_perthread_struct.entries.width_bytes / 8; }
  unsigned fastbins() const { return heap_.layout.malloc_state.fastbinsY.width_bytes / 8; }
  void settle_link_encoding();
  void list_tcache(Tcache& tcache);
  void check_tcache_count(const Tcache& tcache, std::uint64_t bin, std::uint64_t found);

  Target& target_;
  Heap& heap_;
  std::vector<TcacheLayout> layouts_;
};

const TcacheLayout* ListFinder::tcache_layout_at(Addr address) {
  if (!is_aligned(address, kChunkAlignment) || heap_.region_at(address - kChunkHeaderBytes) == nullptr) return nullptr;
  const std::uint64_t word = reader().load<std::uint64_t>(address - 8).value_or(0);
  for (const TcacheLayout& layout : layouts_) {
    if (may_hold(word & ~kSizeFlags, layout) && (word & kIsMmapped) == 0) return &layout;
  }
  return nullptr;
}

// Values in libc's data that may be offsets from the thread pointer: its resolved R_X86_64_TPOFF64 entries are among
// them. They lie in .got, which is writable or was made read-only after relocation.
std::vector<std::int64_t> ListFinder::got_offsets() {
  std::vector<std::int64_t> offsets;
  if (target_.module == nullptr) return offsets;
  constexpr std::uint64_t kRelroBytes = std::uint64_t{256} << 10;
  for (const Mapping& mapping : target_.snapshot.mappings) {
    const bool ours = mapping.path == target_.module->path && !mapping.executable;
    if (!ours || (!mapping.writable && mapping.size_bytes() > kRelroBytes)) continue;
    for (Addr at = mapping.start; at + 8 <= mapping.end; at += 8) {
      const std::int64_t value = reader().load<std::int64_t>(at).value_or(0);
      if (value < 0 && value >= -static_cast<std::int64_t>(kTlsReachBytes) && value % 8 == 0) offsets.push_back(value);
    }
  }
  std::sort(offsets.begin(), offsets.end());
  offsets.erase(std::unique(offsets.begin(), offsets.end()), offsets.end());
  return offsets;
}

// The tcache of each thread if its pointer lay at this offset; 0 where the thread has none (or its memory is not
// there).
std::vector<Addr> ListFinder::tcaches_at(std::int64_t offset, bool& contradicted) {
  std::vector<Addr> found;
  contradicted = false;
  for (const Thread& thread : target_.snapshot.threads) {
    const Addr value =
        thread.thread_pointer == 0
            ? 0
            : reader().load<Addr>(thread.thread_pointer + static_cast<std::uint64_t>(offset)).value_or(0);
    const bool tcache = tcache_layout_at(value) != nullptr;
    // Since 2.43 a thread without one points to a constant in libc.
    const bool none = value == 0 || (target_.module != nullptr && target_.module->range.contains(value));
    if (!tcache && !none) contradicted = true;
    found.push_back(tcache ? value : 0);
  }
  return found;
}

bool ListFinder::try_offsets(const std::vector<std::int64_t>& offsets) {
  std::vector<Addr> best;
  std::ptrdiff_t best_count = 0;
  for (const std::int64_t offset : offsets) {
    bool contradicted = false;
    std::vector<Addr> found = tcaches_at(offset, contradicted);
    const std::ptrdiff_t count = std::count_if(found.begin(), found.end(), [](Addr a) { return a != 0; });
    if (contradicted || count <= best_count) continue;
    const bool sound = std::all_of(found.begin(), found.end(),
                                   [&](Addr a) { return a == 0 || contents_plausible(a, *tcache_layout_at(a)); });
    if (!sound) continue;
    best = std::move(found);
    best_count = count;
  }
  for (std::size_t i = 0; i < best.size(); ++i) {
    if (best[i] != 0) add_tcache(best[i], target_.snapshot.threads[i].tid);
  }
  return best_count != 0;
}

void ListFinder::find_tcaches() {
  bool found = try_offsets(got_offsets());
  if (!found) {
    std::vector<std::int64_t> raw;
    for (std::int64_t offset = -8; offset >= -static_cast<std::int64_t>(kRawTlsBytes); offset -= 8)
      raw.push_back(offset);
    found = try_offsets(raw);
  }
  if (found && !thread_missing()) return;
  find_tcaches_in_arenas();
  if (heap_.traits.tcache == TcacheKind::kSlotsLeft) find_tcaches_by_slots();
}

// Whether some thread's own memory is not there: the first word behind the thread pointer is the pointer itself
// (tcbhead_t, x86-64). gdb 13's gcore writes the stacks of threads as zeros, and what lies in them, from glibc 2.42 on.
bool ListFinder::thread_missing() {
  bool missing = target_.snapshot.threads.empty();
  for (const Thread& thread : target_.snapshot.threads) {
    if (thread.thread_pointer == 0 || reader().load<Addr>(thread.thread_pointer) == thread.thread_pointer) continue;
    missing = true;
    target_.damage(
        "thread-memory-missing", thread.thread_pointer,
        fmt::format("the memory of thread {} is not in the core, or was written as zeros; its tcache is looked "
                    "for in the arenas",
                    thread.tid));
  }
  return missing;
}

// A thread's first allocation is its tcache (until 2.42), so that it is the first chunk of the arena made for it; the
// main thread's likewise. The thread itself stays unknown.
void ListFinder::find_tcaches_in_arenas() {
  for (const Arena& arena : heap_.arenas) {
    const auto own = std::find_if(heap_.regions.begin(), heap_.regions.end(), [&](const Region& region) {
      return &heap_.arenas[region.arena] == &arena && (arena.is_main || region.mapped().contains(arena.address));
    });
    if (own == heap_.regions.end()) continue;
    const Addr address = own->range.start + kChunkHeaderBytes;
    const bool known =
        std::any_of(heap_.tcaches.begin(), heap_.tcaches.end(), [&](const Tcache& t) { return t.address == address; });
    const TcacheLayout* layout = tcache_layout_at(address);
    if (!known && layout != nullptr && contents_plausible(address, *layout)) add_tcache(address, 0);
  }
}

// Since 2.42 the struct can lie anywhere in an arena; what betrays it is that each bin's free slots and chunks add up.
void ListFinder::find_tcaches_by_slots() {
  const TcacheLayout& layout = heap_.layout.tcache_perthread_struct;
  std::vector<Addr> candidates;
  Findings unused;  // the walk that counts reports
  for (const Region& region : heap_.regions) {
    for_each_chunk(heap_, reader(), region, unused, [&](const Chunk& chunk) {
      if (chunk.in_use() && may_hold(chunk.size_bytes, layout)) candidates.push_back(chunk.user_address());
    });
  }
  for (const Addr address : candidates) {
    const bool known =
        std::any_of(heap_.tcaches.begin(), heap_.tcaches.end(), [&](const Tcache& t) { return t.address == address; });
    if (!known && slots_agree(address)) add_tcache(address, 0);
  }
}

bool ListFinder::slots_agree(Addr address) {
  const TcacheLayout& layout = heap_.layout.tcache_perthread_struct;
  if (!contents_plausible(address, layout)) return false;
  for (std::uint64_t bin = 0; bin < kSmallTcacheBins; ++bin) {
    const Addr head = reader().load<Addr>(address + layout.entries.offset + 8 * bin).value_or(0);
    const std::uint64_t slots = reader().load<std::uint16_t>(address + layout.num_slots.offset + 2 * bin).value_or(0);
    std::uint64_t chunks = 0;
    ListCursor cursor(heap_, reader(), head, kChunkHeaderBytes);
    while (chunks <= heap_.par.tcache_count && cursor.step() == ListEnd::kGoesOn) ++chunks;
    if (slots + chunks != heap_.par.tcache_count) return false;
  }
  return heap_.par.tcache_count != 0;
}

// Every list head is null or a chunk of that list's size in some region, and at least one count is not absurd.
bool ListFinder::contents_plausible(Addr address, const TcacheLayout& layout) {
  for (std::uint64_t bin = 0; bin < layout.entries.width_bytes / 8; ++bin) {
    const Addr entry = reader().load<Addr>(address + layout.entries.offset + 8 * bin).value_or(1);
    if (entry == 0) continue;
    if (!is_aligned(entry, kChunkAlignment)) return false;
    if (bin >= kSmallTcacheBins) continue;
    if (heap_.region_at(entry - kChunkHeaderBytes) == nullptr) return false;
    const std::uint64_t word = reader().load<std::uint64_t>(entry - 8).value_or(0);
    if ((word & ~kSizeFlags) != kMinChunkBytes + kChunkAlignment * bin) return false;
  }
  return true;
}

void ListFinder::add_tcache(Addr address, std::int32_t tid) {
  const TcacheLayout* layout = tcache_layout_at(address);
  if (heap_.tcaches.empty()) {
    heap_.layout.tcache_perthread_struct = *layout;
    heap_.traits.tcache = traits_of(heap_.layout).tcache;
  } else if (*layout != heap_.layout.tcache_perthread_struct) {
    return;
  }
  Tcache tcache;
  tcache.address = address;
  tcache.tid = tid;
  tcache.arena = heap_.region_at(address)->arena;
  heap_.tcaches.push_back(tcache);
}

Addr ListFinder::tcache_head(const Tcache& tcache, std::uint64_t bin) {
  const Field entries = heap_.layout.tcache_perthread_struct.entries;
  return reader().load<Addr>(tcache.address + entries.offset + 8 * bin).value_or(0);
}

// Every list ends in a null link, and safe-linking never stores it as 0: each first link says which of the two it is.
void ListFinder::settle_link_encoding() {
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

void ListFinder::list_tcache(Tcache& tcache) {
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

void ListFinder::check_tcache_count(const Tcache& tcache, std::uint64_t bin, std::uint64_t found) {
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
  ListFinder(target, heap).run();
  list_arenas(target, heap);
  tbb::parallel_sort(heap.free_listed.begin(), heap.free_listed.end());
}

}  // namespace heapcore
