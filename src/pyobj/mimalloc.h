// mimalloc, which free-threaded builds of CPython (3.13+) have in place of obmalloc, and others use with
// PYTHONMALLOC=mimalloc: segments of pages of equal blocks
// (Include/internal/mimalloc/mimalloc/types.h, Objects/mimalloc/{segment,page,alloc}.c): mimalloc 2.1.2 to 3.14.8 and
// 3.15.0, 2.5.2 in 3.14.10 and 3.15.2, where a page says itself where its blocks begin, and its tag is a byte of its
// own.
//
//   segment (32 MiB, or what one huge block needs; at a multiple of 32 MiB), in slices of 64 KiB
//   | mi_segment_s with a mi_page_s for each slice | page | page | free | page ... |
//   page (slice_count slices):  | offset | block | block | ... | never carved | tail |
//
// A slice's mi_page_s describes a page where neither slice_count nor the block size (xblock_size, to 2.1.2) is 0; a
// free span of slices has a block size of 0. A page's first `capacity` blocks were carved. Of those, free are the ones
// on its lists `free`, `local_free` and `xthread_free` (freed by other threads; its two low bits are flags), and those
// on the list thread_delayed_free of the heap the page belongs to. `used` counts what is on neither of the first two.
// The lists are linked through the blocks' first words, which release builds do not encode.
//
// In free-threaded builds each thread state has four heaps; a page carries its heap's number as a tag, also when its
// thread is gone: raw memory, objects without GC, objects with GC, and objects with GC behind a pre-header. So whether
// and where a block holds an object is known from its page.
//
// Memory whose freeing waits for other threads (_PyMem_FreeDelayed, QSBR) counts as in use, as it does for mimalloc.
//
// Invariant of each walk: work is bounded by the segment's own size; what leads out of a page or meets itself is a
// finding, and the blocks on it that were read count as free.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "coreparse/address_space.h"
#include "pyobj/obmalloc.h"
#include "pyobj/runtime.h"
#include "support/finding.h"

namespace heapcore {

// _Py_mimalloc_heap_id, the tag of pages.
enum class MiHeap : std::uint8_t { kMem = 0, kObject = 1, kGc = 2, kGcPre = 3, kOther };

struct MiPage {
  Addr address = 0;  // of its mi_page_s
  Addr first_block = 0;
  std::uint64_t block_bytes = 0;
  std::uint64_t span_bytes = 0;  // all of its slices
  std::uint32_t capacity = 0;    // blocks carved
  std::uint32_t reserved = 0;    // blocks there is room for
  std::uint32_t used = 0;
  MiHeap heap = MiHeap::kOther;
  Addr free = 0;
  Addr local_free = 0;
  Addr thread_free = 0;
  Addr owner = 0;  // the heap (mi_heap_s) it is in; 0 if its thread is gone

  // Before each object: the managed dict and weak references' list.
  std::uint32_t header_bytes() const { return heap == MiHeap::kGcPre ? 16 : 0; }
};

struct MiSegment {
  Addr address = 0;
  std::uint64_t bytes = 0;       // all of it
  std::uint64_t info_bytes = 0;  // mi_segment_s, in whole slices
  std::uint64_t lost_bytes = 0;  // slices whose description is damaged or not in the snapshot
  std::vector<MiPage> pages;
};

// Which blocks of a page are free; bit i is block i. Reused from page to page.
struct MiFreeBlocks {
  std::vector<std::uint64_t> bits;
  std::uint32_t count = 0;

  bool test(std::uint32_t block) const { return (bits[block / 64] >> (block % 64) & 1) != 0; }
};

// Fills runtime.mimalloc. REQUIRES: traits and interpreters are set.
void find_mimalloc(const Snapshot& snapshot, PyRuntime& runtime);

// The segments, by address. Damaged pages are findings and left out.
std::vector<MiSegment> read_mi_segments(Reader& reader, const PyRuntime& runtime, Findings& findings);

// The blocks that wait on the heaps' lists thread_delayed_free, sorted.
std::vector<Addr> read_delayed_frees(Reader& reader, const PyRuntime& runtime, Findings& findings);

// Follows the page's free lists. `delayed`: as read_delayed_frees gives them.
void read_free_blocks(Reader& reader, const MiPage& page, std::span<const Addr> delayed, MiFreeBlocks& free,
                      Findings& findings);

// Does each heap own as many pages as it says? How many heaps there are; findings where they do not.
std::uint64_t check_mi_heaps(const Snapshot& snapshot, const PyRuntime& runtime, Findings& findings);

// Whichever of the two allocators the build has; nothing if it was not found.
std::optional<ObmallocUse> summarise_allocator(const Snapshot& snapshot, const PyRuntime& runtime, Findings& findings);

// What mimalloc holds, without looking at any object, in obmalloc's words: an arena is a segment, a pool a page. Bytes
// of free pools are those of free slices.
ObmallocUse summarise_mimalloc(const Snapshot& snapshot, const PyRuntime& runtime, Findings& findings);

}  // namespace heapcore
