// Finds glibc's malloc in a Snapshot.
//
// main_arena is looked for by symbol, by structure (in the writable data of libc, or of a static program), by
// relocation (of the libc file) and by code (malloc_trim); what finds it is checked against the ring of arenas, tops
// and bins before it is believed. Nothing here needs the libc file: structure works on the core alone. Layouts come
// from DWARF of the exact build where its debug file is on this machine, else from the tables; either is believed only
// if the target's structures bear it out.
//
// Does not: walk chunks, except where damage forces it to; keep the Snapshot.
//
// Findings, damage:
//   main-arena-damaged, arena-ring-broken, arena-size-mismatch, heap-info-unknown, heap-chain-broken, heap-overlap,
//   top-out-of-heap, thread-memory-missing, tcache-loop, tcache-bad-link, tcache-bad-entry, tcache-count-mismatch,
//   fastbin-loop, fastbin-bad-link, fastbin-bad-entry, bin-list-broken, mmapped-mismatch
// and notes:
//   main-arena-disagree, malloc-par-disagree, malloc-par-not-found, glibc-layout-mixed,
//   glibc-layout-disagree, glibc-debug-file-unused, attached-threads-mismatch
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "coreparse/snapshot.h"
#include "glibc_heap/heap.h"
#include "support/addr.h"
#include "support/finding.h"

namespace heapcore {

// No heap is a normal answer, and `why_not` says why in one sentence.
struct HeapSearch {
  std::optional<Heap> heap;
  std::string why_not;
  std::string other_allocator;  // "jemalloc", "tcmalloc", "mimalloc", "musl"; empty for none
};

// Where glibc's layout may come from. Reading a debug file takes some 50 ms, which who only wants to know where chunks
// begin need not spend: a table is verified against the target just the same.
enum class LayoutSource : std::uint8_t { kDebugFileFirst, kTables };

// Arenas, regions, tcaches and free lists; everything but `mmapped` and the totals.
HeapSearch find_heap(const Snapshot& snapshot, Findings& findings,
                     LayoutSource source = LayoutSource::kDebugFileFirst);

// Fills heap.mmapped from the anonymous writable mappings that are neither a part of the heap nor in `skip` (ranges
// claimed by others, in any order), and compares with what malloc_par says.
void find_mmapped(const Snapshot& snapshot, std::span<const AddrRange> skip, Heap& heap, Findings& findings);

}  // namespace heapcore
