// Walks the chunks of a region in address order.
//
//     RegionWalk walk = for_each_chunk(heap, reader, region, findings, [&](const Chunk& chunk) { ... });
//
// Each chunk is visited once, top included; nothing is allocated per chunk. Regions are independent: callers may walk
// them in parallel, each with its own Reader and Findings.
//
// A chunk whose size cannot be is a finding; the walk then goes on at the next place from which sizes lead, unbroken,
// past the damage (or to top), and the bytes between are counted as lost.
//
// Findings, damage: chunk-bad-size, chunk-prev-size-mismatch, chunk-listed-twice, walk-list-disagree, heap-not-dumped;
// note: main-arena-gap.
//
// Invariant: the visited bytes + fencepost_bytes + foreign_bytes + lost_bytes = region.range.size_bytes().
//
// A chunk's header (x86-64, little endian):
//
//     chunk -> | prev_size: size of the chunk before, if that is free  | 8 bytes (else the end of its user data)
//              | size, a multiple of 16                        | A|M|P | 8 bytes
//     user  -> | data, or fd and bk of a free chunk                    |
//
// P: the chunk before is in use (or in a tcache or fastbin). M: mmapped. A: of a thread arena.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>

#include "coreparse/address_space.h"
#include "glibc_heap/heap.h"
#include "support/finding.h"

namespace heapcore {

struct Chunk {
  Addr address = 0;              // of the header
  std::uint64_t size_bytes = 0;  // of the whole chunk
  ChunkState state = ChunkState::kInUse;

  Addr user_address() const { return address + kChunkHeaderBytes; }
  // A chunk's user data reaches into the next one's prev_size.
  std::uint64_t user_bytes() const { return usable_bytes(size_bytes); }
  bool in_use() const { return state == ChunkState::kInUse; }
};

struct RegionWalk {
  std::uint64_t fencepost_bytes = 0;
  std::uint64_t foreign_bytes = 0;  // of the main arena: memory between its parts that others took with sbrk
  std::uint64_t lost_bytes = 0;
};

// The part of a walk that is not a template. Callers use for_each_chunk().
class RegionSweep {
 public:
  struct Position {
    Addr address = 0;
    std::uint64_t word = 0;  // the size field there, already judged plausible unless address is limit()
  };
  struct Detour {
    bool visit = false;  // the chunk at hand is to be visited, with the state below
    ChunkState state = ChunkState::kInUse;
    Position resume;
  };

  // REQUIRES: `region` is one of heap.regions; all arguments outlive the sweep.
  RegionSweep(const Heap& heap, Reader& reader, const Region& region, Findings& findings);

  // Where ordinary chunks end: at top, or at the fencepost of a region without one.
  Addr limit() const { return limit_; }
  Position begin();

  // Loads the header at `address`; false if it is not there.
  bool header(Addr address, std::uint64_t& prev_size, std::uint64_t& word) {
    const std::uint64_t offset = address - span_start_;
    if (offset + kChunkHeaderBytes > span_size_) return reach(address, prev_size, word);
    std::memcpy(&prev_size, span_ + offset, sizeof prev_size);
    std::memcpy(&word, span_ + offset + 8, sizeof word);
    return true;
  }

  // REQUIRES: address <= limit().
  bool plausible(Addr address, std::uint64_t word) const {
    const std::uint64_t size = word & ~kSizeFlags;
    return (word & forbidden_) == 0 && size >= kMinChunkBytes && size <= limit_ - address;
  }

  // What the chunk [address, address + size) is, by the header that follows it and by the lists.
  ChunkState classify(Addr address, std::uint64_t size, std::uint64_t next_prev_size, std::uint64_t next_word) {
    if (address >= next_listed_) [[unlikely]]
      return classify_listed(address, size, next_word);
    if ((next_word & kPrevInUse) != 0) return ChunkState::kInUse;
    if (next_prev_size != size) [[unlikely]]
      report_prev_size(address, size, next_prev_size);
    return size < kMinLargeChunkBytes ? ChunkState::kSmall : ChunkState::kLarge;
  }

  // The chunk at `at` is followed by no ordinary header: by a fencepost, by damage, or by bytes that are not there.
  Detour irregular(Position at);
  RegionWalk finish();

 private:
  bool reach(Addr address, std::uint64_t& prev_size, std::uint64_t& word);
  ChunkState classify_listed(Addr address, std::uint64_t size, std::uint64_t next_word);
  void report_prev_size(Addr address, std::uint64_t size, std::uint64_t next_prev_size);
  void report_unreached(Addr until);
  void advance_listed(std::size_t index);
  bool fencepost(Addr address, std::uint64_t word, Position& resume);
  Position skip_damage(Addr from);
  Position search(Addr from, Addr until, Addr must_pass);
  bool leads_on(Addr address, std::uint64_t word, Addr must_pass);
  Addr next_present(Addr from) const;
  Addr next_stored(Addr from) const;

  const Heap& heap_;
  Reader& reader_;
  const Region& region_;
  Findings& findings_;
  Addr limit_ = 0;
  std::uint64_t forbidden_ = 0;  // bits that no size field of this region has
  Addr span_start_ = 0;
  std::uint64_t span_size_ = 0;
  const std::byte* span_ = nullptr;
  std::size_t listed_index_ = 0;
  Addr next_listed_ = ~Addr{0};  // the address of free_listed[listed_index_]
  RegionWalk walk_;
};

template <typename Visitor>
RegionWalk for_each_chunk(const Heap& heap, Reader& reader, const Region& region, Findings& findings, Visitor&& visit) {
  RegionSweep sweep(heap, reader, region, findings);
  const Addr limit = sweep.limit();
  Chunk chunk;
  RegionSweep::Position at = sweep.begin();
  while (at.address != limit) {
    chunk.address = at.address;
    chunk.size_bytes = at.word & ~kSizeFlags;
    const Addr next = at.address + chunk.size_bytes;
    std::uint64_t prev_size = 0;
    std::uint64_t word = 0;
    if (sweep.header(next, prev_size, word) && (next == limit || sweep.plausible(next, word))) [[likely]] {
      chunk.state = sweep.classify(chunk.address, chunk.size_bytes, prev_size, word);
      visit(static_cast<const Chunk&>(chunk));
      at = {next, word};
      continue;
    }
    const RegionSweep::Detour detour = sweep.irregular(at);
    if (detour.visit) {
      chunk.state = detour.state;
      visit(static_cast<const Chunk&>(chunk));
    }
    at = detour.resume;
  }
  if (region.has_top) {
    chunk.address = limit;
    chunk.size_bytes = region.range.end - limit;
    chunk.state = ChunkState::kTop;
    visit(static_cast<const Chunk&>(chunk));
  }
  return sweep.finish();
}

// The chunk that holds `address`, found by walking its region up to there; nothing if no chunk does. Not for hot paths.
std::optional<Chunk> chunk_at(const Heap& heap, Reader& reader, Addr address);

}  // namespace heapcore
