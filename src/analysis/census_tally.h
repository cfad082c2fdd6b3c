// What one thread of the census has seen: counts, and the blocks themselves if they are to be listed. Tallies are
// merged when all are done; the sums do not depend on who saw what.
#pragma once

#include <fmt/format.h>

#include <array>
#include <bit>
#include <vector>

#include "analysis/block_table.h"
#include "analysis/census.h"
#include "pyobj/gc_lists.h"
#include "pyobj/mimalloc.h"
#include "pyobj/objects.h"

namespace heapcore {

struct Tally {
  Tally(const Process& process, TypeTable& types, bool list_blocks)
      : objects(process.snapshot, process.runtime()->traits, types),
        mapped_bytes(process.snapshot.mapped_bytes()),
        lists_blocks(list_blocks) {
    objects.collect_buffers(&buffers);
  }
  Tally(Tally&&) = delete;  // `objects` knows where it is

  void count(const ObjectView& object, std::uint64_t bytes) {
    if (object.type.id >= by_type.size()) by_type.resize(object.type.id + 1);
    TypeTotals& of_size = by_size[static_cast<std::size_t>(std::bit_width(bytes))];
    for (TypeTotals* totals : {&by_type[object.type.id], &of_size}) {
      totals->all.add(bytes);
      if (object.tracked) totals->tracked.add(bytes);
    }
  }

  // Takes back what note_block() has counted. The counts may wrap; they come right when the tallies are summed.
  void uncount(const ObjectView& object, std::uint64_t bytes, std::uint64_t block_bytes, BlockContents& contents) {
    if (object.type.id >= by_type.size()) by_type.resize(object.type.id + 1);
    TypeTotals& of_size = by_size[static_cast<std::size_t>(std::bit_width(bytes))];
    for (TypeTotals* totals : {&by_type[object.type.id], &of_size}) {
      --totals->all.count;
      totals->all.bytes -= bytes;
    }
    if (object.tracked) uncount_tracked(object, bytes);
    --contents.objects.count;
    contents.objects.bytes -= block_bytes;
    contents.other.add(block_bytes);
  }

  // Takes an object out of the tracked ones. The counts may wrap; they come right when the tallies are summed.
  void uncount_tracked(const ObjectView& object, std::uint64_t bytes) {
    if (object.type.id >= by_type.size()) by_type.resize(object.type.id + 1);
    TypeTotals& of_size = by_size[static_cast<std::size_t>(std::bit_width(bytes))];
    for (TypeTotals* totals : {&by_type[object.type.id], &of_size}) {
      --totals->tracked.count;
      totals->tracked.bytes -= bytes;
    }
  }

  void note_block(const ObjectView* object, Addr address, std::span<const std::byte> bytes, std::uint64_t block_bytes,
                  BlockContents& contents) {
    (object != nullptr ? contents.objects : contents.other).add(block_bytes);
    if (object != nullptr) count(*object, checked_size(*object, bytes.subspan(object->offset)));
    if (!lists_blocks) return;
    if (object != nullptr) {
      blocks.add_object(object->address, object->type.id, object->tracked, block_bytes);
    } else {
      blocks.add_raw(address, block_bytes);
    }
  }

  // A length that makes an object larger than all that is mapped is damage; then the object counts with its block.
  std::uint64_t checked_size(const ObjectView& object, std::span<const std::byte> bytes) {
    const std::uint64_t size = objects.size_of(object, bytes);
    if (size <= mapped_bytes) return size;
    findings.add({"object-size-damaged", Room::kAnalysis, object.address,
                  fmt::format("an object's length makes it {} bytes large; it is counted with the {} of its block",
                              size, bytes.size())});
    return bytes.size();
  }

  ObjectReader objects;
  std::uint64_t mapped_bytes;
  std::vector<TypeTotals> by_type;
  std::array<TypeTotals, kSizeClasses> by_size;
  GcRingCheck rings;
  MiFreeBlocks mi_free;
  std::vector<std::byte> copied;
  BlockContents pools;
  BlockContents chunks;
  BlockContents mmapped;
  std::vector<Addr> damaged_pools;  // left out of the sweep
  std::vector<Addr> buffers;        // as ObjectReader::collect_buffers() says
  bool lists_blocks;                // in `blocks`
  BlockColumns blocks;
  Findings findings;
};

}  // namespace heapcore
