// The object census: every live Python object found, counted by type, in one sweep over the memory that can hold
// objects.
//
// The sweep goes over obmalloc's pools and malloc's chunks in use, in address order and in parallel; then it checks
// with GcRingCheck that it met every object on the collector's lists, and walks the lists only if it did not. Nothing
// is stored for an object: memory grows with the number of types.
//
// "bytes" are what sys.getsizeof says, GC header and pre-header included; "block_bytes" are what the allocators gave.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "analysis/block_table.h"
#include "analysis/process.h"
#include "glibc_heap/heap.h"
#include "pyobj/types.h"
#include "support/counts.h"

namespace heapcore {

struct TypeTotals {
  CountBytes all;
  CountBytes tracked;  // of which gc.get_objects() would return

  TypeTotals& operator+=(const TypeTotals& other) {
    all += other.all;
    tracked += other.tracked;
    return *this;
  }
};

// What the blocks of one kind of memory hold.
struct BlockContents {
  CountBytes objects;  // blocks that hold a Python object; whole blocks
  CountBytes other;    // blocks in use that hold none: tables, item arrays, buffers, native data
};

// The allocators' bytes of the blocks that hold objects of one type, by the memory they lie in.
struct TypeBlockBytes {
  std::uint64_t pools = 0;
  std::uint64_t chunks = 0;
  std::uint64_t mmapped = 0;
};

// Sizes by powers of two: index i counts the objects of 2^(i-1) to 2^i - 1 bytes.
inline constexpr std::size_t kSizeClasses = 65;

struct Census {
  std::unique_ptr<TypeTable> types;
  std::vector<TypeTotals> by_type;  // indexed by TypeId
  std::array<TypeTotals, kSizeClasses> by_size;
  CountBytes total;
  CountBytes tracked;
  std::uint64_t objects_elsewhere = 0;  // on the collector's lists, in neither allocator's (sound) memory
  // As PYTHONMALLOC names it: "pymalloc", "malloc", "mimalloc", with "_debug" behind where its debug hooks are on.
  // Empty where the objects do not tell.
  std::string python_allocator;
  bool rings_whole = false;  // the sweep met every object on the lists, and nothing else claimed to be on one
  BlockContents pools;
  BlockContents chunks;   // of arenas; bytes are whole chunks
  BlockContents mmapped;  // mmapped chunks; bytes are whole mappings
  // Indexed by TypeId; the sums are those of `objects` above, less what blocks of 2.7's numbers have room for. Empty
  // unless blocks were listed.
  std::vector<TypeBlockBytes> blocks_by_type;
};

// The pass "decode". Lists in `blocks`, unless it is null, every block that it meets. REQUIRES: process.runtime() !=
// nullptr.
Census take_census(const Process& process, Progress& progress, Findings& findings, BlockTable* blocks = nullptr);

// The same, with blocks_by_type but without a table of blocks.
Census take_census_of_blocks(const Process& process, Progress& progress, Findings& findings);

}  // namespace heapcore
