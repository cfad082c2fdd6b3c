// The sweep of the census: every block that obmalloc, mimalloc, malloc or the lists of numbers say is in use, in
// address order and in parallel, each by the allocator's own structures and asked whether it holds an object.
//
// Does not: look at the collector's lists; census.cc compares with them.
#pragma once

#include <tbb/enumerable_thread_specific.h>

#include <memory>
#include <vector>

#include "analysis/census_tally.h"
#include "analysis/process.h"
#include "analysis/type_blocks.h"
#include "glibc_heap/chunks.h"
#include "pyobj/obmalloc.h"
#include "support/progress.h"

namespace heapcore {

class Sweep {
 public:
  // REQUIRES: process.runtime() != nullptr. `types` and `process` outlive the sweep.
  Sweep(const Process& process, TypeTable& types, bool list_blocks, Findings& findings);

  // The pass "decode". Once.
  void run(Progress& progress);

  // Of all threads; after run().
  tbb::enumerable_thread_specific<Tally>& tallies() { return tallies_; }

  // What was swept, by address. After run().
  std::vector<SweptMemory> memory() const;

  // Whether what lies there was met, if it is in use. After run().
  bool covers(Addr address) const;

 private:
  // The blocks of one kind of number, sorted.
  struct NumberBlocks {
    Addr type = 0;
    std::vector<Addr> blocks;
  };

  void add_number_blocks(const NumberBlockList& list);
  void sweep_numbers(const NumberBlocks& numbers, Tally& tally);
  bool is_number_block(const Chunk& chunk) const;
  void sweep_arena(const PyArena& arena, Tally& tally);
  void sweep_pool(std::span<const std::byte> bytes, const PoolHeader& pool, FreeBlocks& free, Tally& tally);
  void take_back_phantoms();
  void read_mimalloc();
  void sweep_mi_page(const MiPage& page, Tally& tally);
  static std::span<const std::byte> read_part(Reader& reader, Addr address, std::uint64_t block_bytes,
                                              std::vector<std::byte>& copied);
  void sweep_block(Addr address, std::span<const std::byte> bytes, std::uint64_t block_bytes, BlockContents& contents,
                   Tally& tally);
  bool known_to_neighbours(const ObjectView& object, const BlockContents& contents, Tally& tally);
  void sweep_region(const Heap& heap, const Region& region, Tally& tally);
  void pass_region(const Heap& heap, const Region& region, Tally& tally);
  void pass_mmapped(const Heap& heap, Tally& tally);
  void sweep_mmapped(const Heap& heap, Tally& tally);

  const Process& process_;
  const PyRuntime& runtime_;
  Progress* progress_ = nullptr;  // while it runs
  Findings& findings_;
  const bool collecting_;  // the snapshot was taken inside a collection
  std::vector<PyArena> arenas_;
  std::vector<MiPage> mi_pages_;
  std::vector<Addr> mi_delayed_;  // sorted
  std::vector<NumberBlocks> number_blocks_;
  std::vector<Addr> damaged_pools_;  // sorted
  tbb::enumerable_thread_specific<Tally> tallies_;
};

}  // namespace heapcore
