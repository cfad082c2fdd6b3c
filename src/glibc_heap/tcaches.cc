// The tcaches of the threads: through the thread pointers where the threads' memory is there, else by what their
// contents betray.
#include <fmt/format.h>

#include <algorithm>

#include "glibc_heap/chunks.h"
#include "glibc_heap/list_cursor.h"
#include "glibc_heap/parts.h"

namespace heapcore {
namespace {

using TcacheLayout = decltype(GlibcLayout::tcache_perthread_struct);

constexpr std::uint64_t kRawTlsBytes = 16384;  // as far as is searched without the GOT's help

// Whether a chunk of this size may hold the struct: 0x250, 0x290 or 0x300 as malloc rounds it, and one alignment step
// more where what was left over was too small to be a chunk.
bool may_hold(std::uint64_t chunk_bytes, const TcacheLayout& layout) {
  const std::uint64_t rounded = align_up(layout.size_bytes + 8, kChunkAlignment);
  return chunk_bytes == rounded || chunk_bytes == rounded + kChunkAlignment;
}

class TcacheFinder {
 public:
  TcacheFinder(Target& target, Heap& heap) : target_(target), heap_(heap) {
    for (const GlibcLayout& target_layout : target.layouts) {
      const TcacheLayout& layout = target_layout.tcache_perthread_struct;
      if (layout.size_bytes == 0) continue;
      const bool known = std::any_of(layouts_.begin(), layouts_.end(), [&](const auto& l) { return l == layout; });
      if (!known) layouts_.push_back(layout);
    }
  }
  void run();

 private:
  Reader& reader() { return target_.reader; }

  const TcacheLayout* tcache_layout_at(Addr address);
  std::vector<Addr> tcaches_at(std::int64_t offset, bool& contradicted);
  bool try_offsets(const std::vector<std::int64_t>& offsets, bool contents_too);
  bool thread_missing();
  void find_in_first_chunks();
  void find_by_slots();
  bool slots_agree(Addr address);
  bool contents_plausible(Addr address, const TcacheLayout& layout);
  bool known(Addr address) const {
    return std::any_of(heap_.tcaches.begin(), heap_.tcaches.end(),
                       [&](const Tcache& t) { return t.address == address; });
  }
  void add_tcache(Addr address, std::int32_t tid);

  Target& target_;
  Heap& heap_;
  std::vector<TcacheLayout> layouts_;
};

const TcacheLayout* TcacheFinder::tcache_layout_at(Addr address) {
  if (!is_aligned(address, kChunkAlignment)) return nullptr;
  const Region* region = heap_.region_at(address - kChunkHeaderBytes);
  if (region == nullptr) return nullptr;
  const std::uint64_t word = reader().load<std::uint64_t>(address - 8).value_or(0);
  for (const TcacheLayout& layout : layouts_) {
    // A region can be cut off within the chunk that its size field still claims.
    const bool whole = region->range.end - (address - kChunkHeaderBytes) >= kChunkHeaderBytes + layout.size_bytes;
    if (whole && may_hold(word & ~kSizeFlags, layout) && (word & kIsMmapped) == 0) return &layout;
  }
  return nullptr;
}

// The tcache of each thread if its pointer lay at this offset; 0 where the thread has none (or its memory is not
// there).
std::vector<Addr> TcacheFinder::tcaches_at(std::int64_t offset, bool& contradicted) {
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

// Takes the offset that gives most threads a tcache and no thread anything else.
bool TcacheFinder::try_offsets(const std::vector<std::int64_t>& offsets, bool contents_too) {
  std::vector<Addr> best;
  std::ptrdiff_t best_count = 0;
  for (const std::int64_t offset : offsets) {
    bool contradicted = false;
    std::vector<Addr> found = tcaches_at(offset, contradicted);
    const std::ptrdiff_t count = std::count_if(found.begin(), found.end(), [](Addr a) { return a != 0; });
    if (contradicted || count <= best_count) continue;
    const bool sound = !contents_too || std::all_of(found.begin(), found.end(), [&](Addr a) {
      return a == 0 || contents_plausible(a, *tcache_layout_at(a));
    });
    if (!sound) continue;
    best = std::move(found);
    best_count = count;
  }
  for (std::size_t i = 0; i < best.size(); ++i) {
    if (best[i] != 0) add_tcache(best[i], target_.snapshot.threads[i].tid);
  }
  return best_count != 0;
}

void TcacheFinder::run() {
  const std::vector<std::int64_t> got = got_offsets(target_);
  // A damaged tcache must not hide where all of them are; but that is only believed of the GOT's few offsets.
  bool found = try_offsets(got, true) || try_offsets(got, false);
  if (!found) {
    std::vector<std::int64_t> raw;
    for (std::int64_t offset = -8; offset >= -static_cast<std::int64_t>(kRawTlsBytes); offset -= 8)
      raw.push_back(offset);
    found = try_offsets(raw, true);
  }
  if (found && !thread_missing()) return;
  find_in_first_chunks();
  if (heap_.traits.tcache == TcacheKind::kSlotsLeft) find_by_slots();
}

// Whether some thread's own memory is not there: the first word behind the thread pointer is the pointer itself
// (tcbhead_t, x86-64). gdb 13's gcore writes the stacks of threads as zeros, and what lies in them, from glibc 2.42 on.
bool TcacheFinder::thread_missing() {
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
void TcacheFinder::find_in_first_chunks() {
  for (const Arena& arena : heap_.arenas) {
    const auto own = std::find_if(heap_.regions.begin(), heap_.regions.end(), [&](const Region& region) {
      return &heap_.arenas[region.arena] == &arena && (arena.is_main || region.mapped().contains(arena.address));
    });
    if (own == heap_.regions.end()) continue;
    const Addr address = own->range.start + kChunkHeaderBytes;
    const TcacheLayout* layout = tcache_layout_at(address);
    if (!known(address) && layout != nullptr && contents_plausible(address, *layout)) add_tcache(address, 0);
  }
}

// Since 2.42 the struct can lie anywhere in an arena; what betrays it is that each bin's free slots and chunks add up.
void TcacheFinder::find_by_slots() {
  const TcacheLayout& layout = heap_.layout.tcache_perthread_struct;
  std::vector<Addr> candidates;
  Findings unused;  // the walk that counts reports
  for (const Region& region : heap_.regions) {
    for_each_chunk(heap_, reader(), region, unused, [&](const Chunk& chunk) {
      if (chunk.in_use() && may_hold(chunk.size_bytes, layout)) candidates.push_back(chunk.user_address());
    });
  }
  for (const Addr address : candidates) {
    if (!known(address) && slots_agree(address)) add_tcache(address, 0);
  }
}

bool TcacheFinder::slots_agree(Addr address) {
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
bool TcacheFinder::contents_plausible(Addr address, const TcacheLayout& layout) {
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

void TcacheFinder::add_tcache(Addr address, std::int32_t tid) {
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

}  // namespace

void find_tcaches(Target& target, Heap& heap) {
  if (heap.traits.tcache != TcacheKind::kNone) TcacheFinder(target, heap).run();
}

}  // namespace heapcore
