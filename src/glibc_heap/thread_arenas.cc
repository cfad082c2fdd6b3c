// Which thread uses which arena: glibc's thread_arena, a thread-local variable, found as the tcaches are.
#include <fmt/format.h>

#include <algorithm>

#include "glibc_heap/parts.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kTlsReachBytes = std::uint64_t{1} << 20;  // static TLS lies this close below the thread pointer
constexpr std::int64_t kRawTlsBytes = 16384;                      // as far as is searched without the GOT's help
constexpr std::uint32_t kNoArena = ~std::uint32_t{0};

class ThreadArenaFinder {
 public:
  ThreadArenaFinder(Target& target, Heap& heap) : target_(target), heap_(heap) {
    for (std::uint32_t i = 0; i < heap.arenas.size(); ++i) by_address_.emplace_back(heap.arenas[i].address, i);
    std::sort(by_address_.begin(), by_address_.end());
    for (const Thread& thread : target.snapshot.threads) {
      // The first word behind the thread pointer is the pointer itself, unless the thread's memory is not there.
      const Addr tp = thread.thread_pointer;
      if (tp != 0 && target.reader.load<Addr>(tp) == tp) threads_.push_back(&thread);
    }
  }

  void run() {
    if (threads_.empty() || heap_.arenas.empty()) return;
    std::vector<std::int64_t> raw;
    for (std::int64_t offset = -8; offset >= -kRawTlsBytes; offset -= 8) raw.push_back(offset);
    if (!try_offsets(got_offsets(target_)) && !try_offsets(raw)) return;
    heap_.thread_arenas_known = threads_.size() == target_.snapshot.threads.size();
    if (heap_.thread_arenas_known) compare();
  }

 private:
  // The arena of each thread if thread_arena lay at this offset; empty if some thread contradicts it.
  std::vector<std::uint32_t> arenas_at(std::int64_t offset) {
    std::vector<std::uint32_t> found;
    for (const Thread* thread : threads_) {
      Addr value = 0;
      if (!target_.reader.try_load(thread->thread_pointer + static_cast<std::uint64_t>(offset), value)) return {};
      const auto arena = std::lower_bound(by_address_.begin(), by_address_.end(), std::pair{value, std::uint32_t{0}});
      const bool known = arena != by_address_.end() && arena->first == value;
      if (!known && value != 0) return {};
      found.push_back(known ? arena->second : kNoArena);  // a thread that never called malloc has none
    }
    return found;
  }

  bool try_offsets(const std::vector<std::int64_t>& offsets) {
    std::vector<std::uint32_t> best;
    std::ptrdiff_t best_count = 0;
    for (const std::int64_t offset : offsets) {
      std::vector<std::uint32_t> found = arenas_at(offset);
      const std::ptrdiff_t count = std::count_if(found.begin(), found.end(), [](auto a) { return a != kNoArena; });
      if (count <= best_count) continue;
      best = std::move(found);
      best_count = count;
    }
    for (std::size_t i = 0; i < best.size(); ++i) {
      if (best[i] != kNoArena) heap_.arenas[best[i]].threads.push_back(threads_[i]->tid);
    }
    return best_count != 0;
  }

  void compare() {
    if (!heap_.layout.malloc_state.attached_threads.present()) return;
    for (const Arena& arena : heap_.arenas) {
      if (arena.system_bytes == 0 || arena.attached_threads == arena.threads.size()) continue;
      target_.findings.note("attached-threads-mismatch", Room::kGlibcHeap, arena.address,
                            fmt::format("the arena counts {} threads attached, {} threads use it",
                                        arena.attached_threads, arena.threads.size()));
    }
  }

  Target& target_;
  Heap& heap_;
  std::vector<std::pair<Addr, std::uint32_t>> by_address_;
  std::vector<const Thread*> threads_;  // those whose memory is there
};

}  // namespace

// They lie in .got, which is writable or was made read-only after relocation.
std::vector<std::int64_t> got_offsets(Target& target) {
  std::vector<std::int64_t> offsets;
  if (target.module == nullptr) return offsets;
  constexpr std::uint64_t kRelroBytes = std::uint64_t{256} << 10;
  for (const Mapping& mapping : target.snapshot.mappings) {
    const bool ours = mapping.path == target.module->path && !mapping.executable;
    if (!ours || (!mapping.writable && mapping.size_bytes() > kRelroBytes)) continue;
    for (Addr at = mapping.start; at + 8 <= mapping.end; at += 8) {
      at = align_up(std::min(target.reader.space().next_present(at), mapping.end), 8);
      const std::int64_t value = target.reader.load<std::int64_t>(at).value_or(0);
      if (value < 0 && value >= -static_cast<std::int64_t>(kTlsReachBytes) && value % 8 == 0) offsets.push_back(value);
    }
  }
  std::sort(offsets.begin(), offsets.end());
  offsets.erase(std::unique(offsets.begin(), offsets.end()), offsets.end());
  return offsets;
}

void find_thread_arenas(Target& target, Heap& heap) {
  ThreadArenaFinder(target, heap).run();
}

}  // namespace heapcore
