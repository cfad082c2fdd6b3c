// Follows the singly linked lists of tcaches and fastbins. Private to glibc_heap.
#pragma once

#include "coreparse/address_space.h"
#include "glibc_heap/heap.h"

namespace heapcore {

enum class ListEnd : std::uint8_t { kGoesOn, kWhole, kOutside, kLoop, kUnreadable };

// A place in a singly linked list of free chunks. Each step reads one chunk; several lists followed in turn overlap
// their waits for memory, which is what following a long list costs.
class ListCursor {
 public:
  // A link points `to_chunk` bytes behind the chunk's start.
  ListCursor(const Heap& heap, Reader& reader, Addr head, std::uint64_t to_chunk)
      : heap_(&heap), reader_(&reader), link_(head), to_chunk_(to_chunk) {}

  Addr chunk() const { return chunk_; }
  std::uint64_t size_bytes() const { return size_bytes_; }
  const Region* region() const { return region_; }

  // Moves to the next chunk; kGoesOn if there is one.
  ListEnd step() {
    if (link_ == 0) return ListEnd::kWhole;
    // Brent's: `mark_` is left behind at growing distances; a list that runs into itself meets it again.
    if (link_ == mark_) return ListEnd::kLoop;
    if (++steps_ == lap_) {
      mark_ = link_;
      lap_ *= 2;
    }
    chunk_ = link_ - to_chunk_;
    if (region_ == nullptr || !region_->range.contains(chunk_)) region_ = heap_->region_at(chunk_);
    if (region_ == nullptr || !is_aligned(link_, kChunkAlignment)) return ListEnd::kOutside;
    std::uint64_t word = 0;
    std::uint64_t stored = 0;
    const Addr field = chunk_ + kChunkHeaderBytes;
    if (!reader_->try_load(chunk_ + 8, word) || !reader_->try_load(field, stored)) return ListEnd::kUnreadable;
    size_bytes_ = word & ~kSizeFlags;
    link_ = decode_link(heap_->traits.links, field, stored);
    return ListEnd::kGoesOn;
  }

 private:
  const Heap* heap_;
  Reader* reader_;
  Addr link_;
  std::uint64_t to_chunk_;
  Addr chunk_ = 0;
  std::uint64_t size_bytes_ = 0;
  const Region* region_ = nullptr;
  Addr mark_ = 0;
  std::uint64_t steps_ = 0;
  std::uint64_t lap_ = 64;
};

}  // namespace heapcore
