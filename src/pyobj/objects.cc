#include "pyobj/objects.h"

#include <cstring>

namespace heapcore {
namespace {

std::uint64_t word_at(std::span<const std::byte> bytes, std::size_t offset) {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// No count reaches this: it would take as many references, of 8 bytes each, as an address space holds.
constexpr std::uint64_t kRefcntBound = std::uint64_t{1} << 40;
constexpr std::uint64_t kOptionalTailBytes = 8;
// Below this a count is no address of any mapping.
constexpr std::uint64_t kLowestMapped = 1 << 16;

}  // namespace

// REQUIRES: 0 < refcnt <= kRefcntBound.
bool ObjectReader::plausible_refcnt(std::uint64_t refcnt) {
  if (refcnt < kLowestMapped || !is_aligned(refcnt, 8)) return true;
  // A program at a fixed low address has objects at addresses small enough for a count. Is it one of theirs?
  Addr type = 0;
  return !reader_.try_load(refcnt + layout_.PyObject.ob_type.offset, type) || cache_.lookup(type).id == kNoType;
}

bool ObjectReader::read_gc_head(std::span<const std::byte> head, ObjectView& object) const {
  const std::uint64_t next = word_at(head, layout_.PyGC_Head._gc_next.offset);
  const std::uint64_t prev = word_at(head, layout_.PyGC_Head._gc_prev.offset);
  // _gc_next: bit 0 is set while collecting. _gc_prev: bit 0 finalized, bit 1 collecting; an untracked object keeps bit 0.
  object.gc_next = align_down(next, 4);
  object.tracked = object.gc_next != 0;
  return object.tracked ? is_aligned(object.gc_next, 8) && align_down(prev, 4) != 0 : align_down(prev, 4) == 0;
}

bool ObjectReader::recognise(Addr address, std::span<const std::byte> block, ObjectView& object) {
  const std::uint32_t gc_bytes = traits_.gc_head_bytes();
  const std::uint32_t candidates[] = {0, gc_bytes, gc_bytes + 16};
  const std::size_t count = traits_.pre_header == PreHeader::kNone ? 2 : 3;
  if (recognise_at(candidates[likely_candidate_], address, block, object)) return true;
  for (std::size_t i = 0; i < count; ++i) {
    if (i == likely_candidate_ || !recognise_at(candidates[i], address, block, object)) continue;
    likely_candidate_ = i;
    return true;
  }
  return false;
}

bool ObjectReader::recognise_at(std::uint32_t offset, Addr address, std::span<const std::byte> block, ObjectView& object) {
  if (offset + layout_.PyObject.size_bytes > block.size()) return false;
  // The cheapest test first: where a block holds pointers or text, what stands for the count is out of all bounds, and the word
  // behind it need not be followed.
  const std::uint64_t refcnt = word_at(block, offset + layout_.PyObject.ob_refcnt.offset);
  if (refcnt - 1 >= kRefcntBound) return false;
  const TypeBrief type = cache_.lookup(word_at(block, offset + layout_.PyObject.ob_type.offset));
  if (type.id == kNoType || type.header_bytes != offset) return false;
  // Some objects are shorter than their type's tp_basicsize, which is that of the longest kind: a compact ASCII str, and,
  // by their last pointer, a time or datetime without tzinfo.
  const std::uint64_t least_bytes = type.size_rule == SizeRule::kStr ? layout_.PyASCIIObject.size_bytes + 1
                                                                     : std::uint64_t{type.basicsize} - kOptionalTailBytes;
  if (least_bytes > block.size() - offset) return false;
  if (!plausible_refcnt(refcnt)) return false;
  object.tracked = false;
  object.gc_next = 0;
  if (offset != 0 && !read_gc_head(block.subspan(offset - traits_.gc_head_bytes()), object)) return false;
  object.address = address + offset;
  object.type = type;
  object.offset = offset;
  return true;
}

bool ObjectReader::at(Addr address, ObjectView& object) {
  Addr type_address = 0;
  if (!reader_.try_load(address + layout_.PyObject.ob_type.offset, type_address)) return false;
  const TypeBrief type = cache_.lookup(type_address);
  if (type.id == kNoType) return false;
  object = {};
  object.address = address;
  object.type = type;
  object.offset = type.header_bytes;
  if (type.header_bytes == 0) return true;
  const std::span<const std::byte> head = reader_.span(address - traits_.gc_head_bytes(), traits_.gc_head_bytes());
  return !head.empty() && read_gc_head(head, object);
}

}  // namespace heapcore
