// What the files that fill a Heap share. Private to glibc_heap.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "coreparse/snapshot.h"
#include "glibc_heap/heap.h"

namespace heapcore {

// A field of 1, 2, 4 or 8 bytes, as an unsigned number; nothing if it is absent or its bytes are not there.
std::optional<std::uint64_t> load_field(Reader& reader, Addr structure, Field field);
// The same with 0 for nothing.
std::uint64_t field_or_zero(Reader& reader, Addr structure, Field field);

// The head of a bin, seen as a chunk whose fd and bk are the bin's two words (bin_at).
constexpr Addr bin_head(const decltype(GlibcLayout::malloc_state)& layout, Addr arena, std::uint64_t bin) {
  return arena + layout.bins.offset + 16 * (bin - 1) - kChunkHeaderBytes;
}

constexpr std::uint64_t kSmallTcacheBins = 64;  // of the 76 since 2.42; all before

struct Target {
  const Snapshot& snapshot;
  Reader reader;
  Findings& findings;
  const Module* module = nullptr;                     // libc, or the static program; null if neither is known
  std::vector<AddrRange> writable;                    // its writable data, .bss included
  std::string banner_version = {};                    // "2.36"; empty if unknown
  std::optional<GlibcLayout> debug_file_layout = {};  // what DWARF of the exact build says
  std::vector<GlibcLayout> layouts = {};  // all that may be the target's, the likeliest first: DWARF's, the banner's,
                                          // then the tables from the newest on

  bool in_writable(Addr address) const;
  void damage(std::string_view code, Addr address, std::string detail) {
    findings.add({code, Room::kGlibcHeap, address, std::move(detail), true});
  }
};

// locate_arena.cc. Fills located_by, agreed, layout.malloc_state, arenas[0].address. False if there is no main_arena.
bool locate_main_arena(Target& target, Heap& heap);
// Fills heap.par and layout.malloc_par. REQUIRES: the main arena is known.
void locate_malloc_par(Target& target, Heap& heap);

// regions.cc. Fills heap.arenas, heap.regions, layout._heap_info. REQUIRES: the main arena is known, malloc_par was
// sought.
void find_arenas(Target& target, Heap& heap);

// tcaches.cc. Fills heap.tcaches, layout.tcache_perthread_struct, traits.tcache. REQUIRES: the regions are known.
void find_tcaches(Target& target, Heap& heap);

// thread_arenas.cc. Fills Arena::threads, heap.thread_arenas_known. REQUIRES: the regions are known.
void find_thread_arenas(Target& target, Heap& heap);
// Values in libc's data that may be offsets from the thread pointer: its resolved R_X86_64_TPOFF64 entries are among
// them. Sorted.
std::vector<std::int64_t> got_offsets(Target& target);

// free_lists.cc. Fills heap.free_listed, Tcache::chunks, traits.links. REQUIRES: the tcaches are known.
void find_free_lists(Target& target, Heap& heap);

// Calls visit(chunk) for each chunk of a bin, until the ring closes or breaks (a finding).
template <typename Visitor>
bool walk_bin(Target& target, const Heap& heap, const Arena& arena, unsigned bin, Visitor&& visit) {
  const Addr head = bin_head(heap.layout.malloc_state, arena.address, bin);
  Addr previous = head;
  std::uint64_t left = arena.system_bytes / kMinChunkBytes + 1;
  for (;;) {
    // A ring whose every back link is right cannot turn into itself short of its head.
    Addr chunk = 0;
    Addr back = 0;
    if (!target.reader.try_load(previous + 16, chunk)) break;
    if (!target.reader.try_load(chunk + 24, back) || back != previous || left-- == 0) break;
    if (chunk == head) return true;
    if (!is_aligned(chunk, kChunkAlignment) || heap.region_at(chunk) == nullptr) break;
    visit(chunk);
    previous = chunk;
  }
  target.damage("bin-list-broken", previous, "the list of bin " + std::to_string(bin) + " breaks after this chunk");
  return false;
}

}  // namespace heapcore
