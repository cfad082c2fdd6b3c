// Synthesises a process with a glibc malloc in it: libc's data (main_arena, mp_), a main heap, thread arenas with
// heaps, tcaches, bins and mmapped chunks, in any version's layout. Tests then damage the bytes as they please.
//
// It writes what malloc would have written, from the same layout tables that are under test but from none of the code.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "coreparse/snapshot.h"
#include "glibc_heap/glibc_layout.h"
#include "glibc_heap/glibc_traits.h"
#include "glibc_heap/heap.h"

namespace heapcore::testing {

constexpr Addr kLibcBase = 0x7f0000000000;
constexpr Addr kLibcData = kLibcBase + 0x100000;
constexpr std::uint64_t kLibcDataBytes = 0x4000;
constexpr Addr kMainArena = kLibcData + 0x1c60;
constexpr Addr kMallocPar = kLibcData + 0x1340;
constexpr Addr kBrkStart = 0x555500000000;
constexpr Addr kThreadHeap = 0x7e0000000000;  // a multiple of 64 MiB
constexpr Addr kTlsBase = 0x7d0000000000;
constexpr std::int64_t kTcacheOffset = -72;

class FakeProcess {
 public:
  explicit FakeProcess(const std::string& version = "2.36")
      : layout_(glibc_table(version)->layout), traits_(traits_of(layout_)) {
    add_memory(kLibcData, kLibcDataBytes, "/lib/libc.so.6");
    put(kLibcData + 8, static_cast<std::uint64_t>(kTcacheOffset));  // a resolved TPOFF64 entry
    init_arena(kMainArena);
    const auto& par = layout_.malloc_par;
    put(kMallocPar + par.top_pad.offset, 0x20000);
    put(kMallocPar + par.arena_test.offset, 8);
    put32(kMallocPar + par.n_mmaps_max.offset, 65536);
    put(kMallocPar + par.trim_threshold.offset, 0x20000);
    put(kMallocPar + par.mmap_threshold.offset, 0x20000);
    put(kMallocPar + par.sbrk_base.offset, kBrkStart);
    if (par.tcache_count.present()) put(kMallocPar + par.tcache_count.offset, 7);
    at_ = kBrkStart;
  }

  const GlibcLayout& layout() const { return layout_; }
  const GlibcTraits& traits() const { return traits_; }
  Addr next_chunk() const { return at_; }

  // The main heap, of so many bytes. Chunks are then added in address order.
  void main_heap(std::uint64_t bytes) {
    add_memory(kBrkStart, bytes, "");
    begin_region(kMainArena, kBrkStart, kBrkStart + bytes, false);
  }

  // A thread arena's first heap or a further one, `index` heaps up; returns the arena.
  Addr thread_heap(unsigned index, std::uint64_t bytes, Addr arena = 0) {
    const Addr info = kThreadHeap + index * traits_.heap_max_bytes;
    const auto& heap_info = layout_._heap_info;
    add_memory(info, bytes, "");
    Addr first = info + heap_info.size_bytes;
    if (arena == 0) {
      arena = first;
      init_arena(arena);
      first += layout_.malloc_state.size_bytes;
      const Addr next = get(kMainArena + layout_.malloc_state.next.offset);
      put(kMainArena + layout_.malloc_state.next.offset, arena);
      put(arena + layout_.malloc_state.next.offset, next);
    } else {
      put(info + heap_info.prev.offset, last_info_[arena]);
    }
    last_info_[arena] = info;
    put(info + heap_info.ar_ptr.offset, arena);
    put(info + heap_info.size.offset, bytes);
    begin_region(arena, (first + 15) & ~Addr{15}, info + bytes, true);
    system_[arena] += bytes;
    put(arena + layout_.malloc_state.system_mem.offset, system_[arena]);
    put(arena + layout_.malloc_state.max_system_mem.offset, system_[arena]);
    return arena;
  }

  // A chunk in use (or in a tcache or fastbin, as far as its neighbour knows).
  Addr used(std::uint64_t size) {
    const Addr chunk = at_;
    put(chunk + 8, size | prev_in_use_ | (thread_ ? kNonMainArena : 0));
    prev_in_use_ = kPrevInUse;
    at_ += size;
    return chunk;
  }
  // A chunk that its neighbour knows to be free, put at the head of a bin (1 is the unsorted list).
  Addr freed(std::uint64_t size, unsigned bin) {
    const Addr chunk = at_;
    put(chunk + 8, size | prev_in_use_);
    put(chunk + size, size);  // the next one's prev_size
    prev_in_use_ = 0;
    at_ += size;
    link(chunk, bin);
    return chunk;
  }
  void link(Addr chunk, unsigned bin) {
    const Addr head = arena_ + layout_.malloc_state.bins.offset + 16 * (bin - 1) - 16;
    const Addr first = get(head + 16);
    put(chunk + 16, first);
    put(chunk + 24, head);
    put(first + 24, chunk);
    put(head + 16, chunk);
  }
  // The rest of the region becomes top.
  void top() {
    put(arena_ + layout_.malloc_state.top.offset, at_);
    put(at_ + 8, (end_ - at_) | prev_in_use_);
    if (!thread_) {
      put(arena_ + layout_.malloc_state.system_mem.offset, end_ - kBrkStart);
      put(arena_ + layout_.malloc_state.max_system_mem.offset, end_ - kBrkStart);
    }
  }
  // The rest of a thread's heap but the fencepost becomes one chunk in use.
  void fencepost() {
    if (end_ - at_ > 32) used(end_ - at_ - 32);
    put(at_ + 8, 0x10 | prev_in_use_);
    put(at_ + 24, 1);
  }

  // A tcache in the current region, for a new thread. Chunks are then hung into it.
  Addr tcache() {
    const auto& tcache = layout_.tcache_perthread_struct;
    const Addr user = used((tcache.size_bytes + 8 + 15) & ~std::uint64_t{15}) + 16;
    if (traits_.tcache == TcacheKind::kSlotsLeft) {
      for (unsigned i = 0; i < tcache.num_slots.width_bytes / 2; ++i) put16(user + tcache.num_slots.offset + 2 * i, 7);
    }
    thread(user);
    return user;
  }
  void thread(Addr tcache) {
    Thread thread;
    thread.tid = 100 + static_cast<std::int32_t>(threads_.size());
    const Addr tls = kTlsBase + threads_.size() * 0x10000;
    add_memory(tls, 0x2000, "");
    thread.thread_pointer = tls + 0x1000;
    put(thread.thread_pointer, thread.thread_pointer);
    put(thread.thread_pointer + static_cast<std::uint64_t>(kTcacheOffset), tcache);
    threads_.push_back(thread);
  }
  void to_tcache(Addr tcache, Addr chunk) {
    const auto& layout = layout_.tcache_perthread_struct;
    const unsigned bin = static_cast<unsigned>(((get(chunk + 8) & ~std::uint64_t{7}) - 32) / 16);
    const Addr head = tcache + layout.entries.offset + 8 * bin;
    put(chunk + 16, stored(chunk + 16, get(head)));
    put(head, chunk + 16);
    if (traits_.tcache == TcacheKind::kCharCounts) ++byte(tcache + layout.counts.offset + bin);
    if (traits_.tcache == TcacheKind::kShortCounts) ++byte(tcache + layout.counts.offset + 2 * bin);
    if (traits_.tcache == TcacheKind::kSlotsLeft) --byte(tcache + layout.num_slots.offset + 2 * bin);
  }
  void to_fastbin(Addr chunk) {
    const std::uint64_t size = get(chunk + 8) & ~std::uint64_t{7};
    const Addr head = arena_ + layout_.malloc_state.fastbinsY.offset + 8 * ((size - 32) / 16);
    put(chunk + 16, stored(chunk + 16, get(head)));
    put(head, chunk);
  }
  std::uint64_t stored(Addr field, Addr target) const {
    return traits_.links == LinkEncoding::kSafeLinking ? (field >> 12) ^ target : target;
  }

  void mmapped(Addr start, std::uint64_t total, std::uint64_t padding = 0) {
    const std::uint64_t beyond = traits_.mmapped == MmappedRule::kSizeLacksHeader ? 16 : 0;
    add_memory(start, total, "");
    put(start + 8, (total - beyond) | kIsMmapped);
    put(start + padding, padding);
    put(start + padding + 8, (total - padding - beyond) | kIsMmapped);
    const auto& par = layout_.malloc_par;
    for (const Field field : {par.n_mmaps, par.max_n_mmaps}) {
      put32(kMallocPar + field.offset, static_cast<std::uint32_t>(get(kMallocPar + field.offset)) + 1);
    }
    for (const Field field : {par.mmapped_mem, par.max_mmapped_mem}) {
      put(kMallocPar + field.offset, get(kMallocPar + field.offset) + total);
    }
  }

  void add_memory(Addr start, std::uint64_t bytes, const std::string& path) {
    blocks_.emplace(start, Block{std::vector<std::byte>(bytes), path});
  }

  std::uint64_t get(Addr address) {
    std::uint64_t value = 0;
    std::memcpy(&value, &raw(address), sizeof value);
    return value;
  }
  void put(Addr address, std::uint64_t value) { std::memcpy(&raw(address), &value, sizeof value); }
  void put32(Addr address, std::uint32_t value) { std::memcpy(&raw(address), &value, sizeof value); }
  void put16(Addr address, std::uint16_t value) { std::memcpy(&raw(address), &value, sizeof value); }
  void fill(Addr address, std::uint64_t bytes, unsigned char value) { std::memset(&raw(address), value, bytes); }
  unsigned char& byte(Addr address) { return reinterpret_cast<unsigned char&>(raw(address)); }

  // The process must outlive it.
  Snapshot snapshot() {
    Snapshot out;
    std::vector<Segment> segments;
    for (auto& [start, block] : blocks_) {
      const Addr end = start + block.bytes.size();
      segments.push_back({start, end, block.bytes.data(), ByteState::kPresent, false});
      Mapping mapping;
      mapping.start = start;
      mapping.end = end;
      mapping.path = block.path;
      mapping.readable = mapping.writable = true;
      // As the kernel does, merge anonymous neighbours.
      if (!out.mappings.empty() && out.mappings.back().end == start && block.path.empty() &&
          out.mappings.back().path.empty()) {
        out.mappings.back().end = end;
      } else {
        out.mappings.push_back(mapping);
      }
    }
    out.space.assign(std::move(segments));
    Module libc;
    libc.path = "/lib/libc.so.6";
    libc.range = {kLibcBase, kLibcData + kLibcDataBytes};
    libc.load_bias = kLibcBase;
    out.modules.push_back(libc);
    out.threads = threads_;
    return out;
  }

 private:
  struct Block {
    std::vector<std::byte> bytes;
    std::string path;
  };

  std::byte& raw(Addr address) {
    auto it = std::prev(blocks_.upper_bound(address));
    return it->second.bytes.at(address - it->first);
  }
  void init_arena(Addr arena) {
    const auto& state = layout_.malloc_state;
    for (unsigned bin = 1; bin <= kBins; ++bin) {
      const Addr head = arena + state.bins.offset + 16 * (bin - 1) - 16;
      put(head + 16, head);
      put(head + 24, head);
    }
    put(arena + state.top.offset, arena + state.bins.offset - 16);
    put(arena + state.next.offset, arena);
    if (state.attached_threads.present()) put(arena + state.attached_threads.offset, 1);
  }
  void begin_region(Addr arena, Addr first, Addr end, bool thread) {
    arena_ = arena;
    at_ = first;
    end_ = end;
    thread_ = thread;
    prev_in_use_ = kPrevInUse;
  }

  GlibcLayout layout_;
  GlibcTraits traits_;
  std::map<Addr, Block> blocks_;
  std::vector<Thread> threads_;
  std::map<Addr, std::uint64_t> system_;
  std::map<Addr, Addr> last_info_;
  Addr arena_ = 0;
  Addr at_ = 0;
  Addr end_ = 0;
  bool thread_ = false;
  std::uint64_t prev_in_use_ = kPrevInUse;
};

}  // namespace heapcore::testing
