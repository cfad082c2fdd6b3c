// Which blocks hold a Python object, where in the block it begins, and how large it is.
//
// A block (of obmalloc, or a malloc chunk in use) begins with what its type puts before the object; free-threaded
// builds put no PyGC_Head there:
//
//   no GC          | ob_refcnt | ob_type | ...
//   GC             | _gc_next | _gc_prev | ob_refcnt | ob_type | ...
//   pre-header     | values | dict | _gc_next | _gc_prev | ob_refcnt | ob_type | ...        (3.11, managed dict)
//
// so an object is recognised where ob_type is a type whose own flags demand exactly that place. Blocks that hold no
// object (keys tables, value arrays, item arrays, raw buffers) can hold a type's address at such a place too, as the
// second item of a list for instance; then what stands for the reference count is itself the address of an object, and
// the block is refused. A freed object has a count of 0, or the allocator's link in its place.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "coreparse/address_space.h"
#include "pyobj/types.h"

namespace heapcore {

struct ObjectView {
  Addr address = 0;
  TypeBrief type;
  std::uint32_t offset = 0;  // of the object in its block
  bool tracked = false;      // on one of the collector's lists
  Addr gc_next = 0;          // PyGC_Head's link, flags removed; 0 if untracked
};

// Recognises and measures objects. One for each thread.
class ObjectReader {
 public:
  ObjectReader(const Snapshot& snapshot, const PyTraits& traits, TypeTable& types)
      : reader_(snapshot.space), traits_(traits), layout_(*traits.layout), cache_(types) {}

  // Neighbours in a pool are mostly of one kind, so recognise() first tries the place where the last object began.
  // Called at the start of each pool, so that no answer depends on which pools a thread swept before.
  void start_pool() { likely_candidate_ = 0; }

  // Is there an object in the block at `address` with these bytes?
  bool recognise(Addr address, std::span<const std::byte> block, ObjectView& object);

  // The same for a block of mimalloc's, whose page tells how many bytes there are before an object.
  bool recognise_in_page(Addr address, std::span<const std::byte> block, std::uint32_t header_bytes,
                         ObjectView& object);

  // Does a neighbour on the collector's list know this tracked object? Not while a collection runs, which uses the
  // links for counts. True where the snapshot lacks the neighbours.
  bool is_linked(const ObjectView& object);

  // The object at a known address, as a list of the collector names it.
  bool at(Addr address, ObjectView& object);

  // What sys.getsizeof would say. `bytes` begin at the object and reach at least over its fixed part.
  std::uint64_t size_of(const ObjectView& object, std::span<const std::byte> bytes);

  // From now on size_of() puts into `buffers` the raw blocks in which objects that it measures keep numbers: what they
  // do not fill may still bear the type of an object that was freed there.
  void collect_buffers(std::vector<Addr>* buffers) { buffers_ = buffers; }

  // Whether any block bore the header of the allocator's debug hooks.
  bool saw_debug_hooks() const { return saw_debug_hooks_; }
  // Whether the items of some array.array could not be measured: their size lies in constants of its module.
  bool lacked_array_items() const { return lacked_array_items_; }
  Reader& reader() { return reader_; }
  TypeCache& types() { return cache_; }

 private:
  // Below this a count is no address of any mapping.
  static constexpr std::uint64_t kLowestMapped = 1 << 16;
  // Addresses of user space end here, five-level page tables included.
  static constexpr std::uint64_t kAddressesEnd = std::uint64_t{1} << 56;
  // What an object may lack of its type's tp_basicsize: a last pointer.
  static constexpr std::uint64_t kOptionalTailBytes = 8;

  static std::uint64_t word_at(std::span<const std::byte> bytes, std::size_t offset) {
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
  }

  // A block is larger than was asked for by less than this: its alignment, and what malloc could not split off. Where
  // it is hooked, by what the hooks put behind as well.
  static constexpr std::uint64_t kBlockSlackBytes = 32;
  static constexpr std::uint64_t kDebugTrailerBytes = 16;
  static constexpr std::uint32_t kDebugHeaderBytes = 16;

  static bool has_debug_header(std::span<const std::byte> block);
  bool recognise_plain(Addr address, std::span<const std::byte> block, ObjectView& object);
  bool recognise_at(std::uint32_t offset, Addr address, std::span<const std::byte> block, ObjectView& object);
  bool is_object_address(std::uint64_t refcnt);
  // Whether the collector's list goes from `neighbour` to `node`; nothing where the snapshot lacks it.
  std::optional<bool> leads_to(Addr neighbour, const Field& link, Addr node);
  bool read_gc_refs(std::uint64_t word, Addr next, Addr prev, ObjectView& object) const;
  bool read_gc_head(std::span<const std::byte> head, ObjectView& object) const;
  void note_buffer(Addr buffer) {
    if (buffers_ != nullptr && buffer != 0) buffers_->push_back(buffer);
  }
  std::uint64_t size_by_rule(const ObjectView& object, std::span<const std::byte> bytes);
  std::uint64_t str_size(const ObjectView& object, std::span<const std::byte> bytes) const;
  std::uint64_t dict_size(const ObjectView& object, std::span<const std::byte> bytes);
  std::uint64_t type_size(const ObjectView& object, std::span<const std::byte> bytes);
  std::uint64_t code_size(const ObjectView& object, std::span<const std::byte> bytes);
  std::uint64_t frame_slots(Addr code);
  std::uint64_t bytesio_buffer_size(Addr buffer);
  std::uint64_t struct_codes_size(Addr codes);
  std::uint64_t stgdict_size(const ObjectView& object, std::span<const std::byte> bytes);
  template <typename Fields>
  std::uint64_t ctypes_extra_size(const Fields& fields, std::span<const std::byte> bytes);
  std::uint64_t ctypes_type_size(const ObjectView& object, std::span<const std::byte> bytes);
  Addr frame_code(Addr frame);
  std::uint64_t element_extra_size(Addr extra);
  std::uint64_t tuple_length(Addr tuple);

  Reader reader_;
  const PyTraits& traits_;
  const PyLayout& layout_;
  TypeCache cache_;
  std::size_t likely_candidate_ = 0;
  std::uint64_t slack_bytes_ = kBlockSlackBytes;
  bool saw_debug_hooks_ = false;
  bool lacked_array_items_ = false;
  std::vector<Addr>* buffers_ = nullptr;
};

// The rest is the sweep's inner loop, and inline for its sake.

inline bool ObjectReader::read_gc_head(std::span<const std::byte> head, ObjectView& object) const {
  const std::uint64_t next = word_at(head, layout_.PyGC_Head._gc_next.offset);
  const std::uint64_t prev = word_at(head, layout_.PyGC_Head._gc_prev.offset);
  if (traits_.gc_head != GcHead::kTwoWords) {
    object.gc_next = next;
    return read_gc_refs(word_at(head, layout_.PyGC_Head.gc_refs.offset), next, prev, object);
  }
  // _gc_next: bit 0 is set while collecting. _gc_prev: bit 0 finalized, bit 1 collecting, and then a count stands where
  // the link was, which may be 0; an untracked object keeps bit 0.
  object.gc_next = align_down(next, 4);
  object.tracked = object.gc_next != 0;
  // Text that an earlier owner of the block left where the link would be is no address.
  return object.tracked ? object.gc_next < kAddressesEnd && align_down(prev, 2) != 0 : align_down(prev, 4) == 0;
}

// To 3.7: gc_refs is -2 in an untracked object, whose links say nothing; -3 or -4, or in a collection a count, in a
// tracked one.
inline bool ObjectReader::read_gc_refs(std::uint64_t word, Addr next, Addr prev, ObjectView& object) const {
  const std::int64_t refs = static_cast<std::int64_t>(word) >> (traits_.gc_head == GcHead::kShiftedRefsWord ? 1 : 0);
  object.tracked = refs != -2;
  if (object.tracked) return refs >= -4 && next != 0 && prev != 0 && is_aligned(next, 8) && is_aligned(prev, 8);
  object.gc_next = 0;
  return true;
}

inline bool ObjectReader::recognise_at(std::uint32_t offset, Addr address, std::span<const std::byte> block,
                                       ObjectView& object) {
  if (offset + layout_.PyObject.size_bytes > block.size()) return false;
  // The cheapest test first: where a block holds pointers or text, what stands for the count is out of all bounds, and
  // the word behind it need not be followed.
  const std::uint64_t refcnt = word_at(block, offset + layout_.PyObject.ob_refcnt.offset) & traits_.refcnt_mask;
  if (refcnt - 1 >= traits_.refcnt_bound) return false;
  const TypeBrief& type = cache_.lookup(word_at(block, offset + layout_.PyObject.ob_type.offset));
  if (type.id == kNoType || type.header_bytes != offset) return false;
  // Some objects are shorter than their type's tp_basicsize, which is that of the longest kind: a compact ASCII str,
  // and, by their last pointer, a time or datetime without tzinfo.
  const std::uint64_t least_bytes = type.size_rule == SizeRule::kStr
                                        ? layout_.PyASCIIObject.size_bytes + 1
                                        : std::uint64_t{type.basicsize} - kOptionalTailBytes;
  if (least_bytes > block.size() - offset) return false;
  if (type.fits_exactly && block.size() >= type.basicsize + slack_bytes_) return false;
  object.type = type;  // before the next lookup, which may take its slot
  if (refcnt >= kLowestMapped && is_aligned(refcnt, 8) && is_object_address(refcnt)) return false;
  object.tracked = false;
  object.gc_next = 0;
  if (offset != 0 && !read_gc_head(block.subspan(offset - traits_.gc_head_bytes()), object)) return false;
  object.address = address + offset;
  object.offset = offset;
  return true;
}

inline bool ObjectReader::recognise(Addr address, std::span<const std::byte> block, ObjectView& object) {
  if (recognise_plain(address, block, object)) {
    // What the hooks put before a raw buffer can lie where a type with a pre-header has it.
    if (object.offset <= traits_.gc_head_bytes() || !has_debug_header(block)) return true;
  }
  // A block too large for obmalloc passed the hooks twice, its own and those of the raw domain.
  for (std::uint32_t header = kDebugHeaderBytes; header <= 2 * kDebugHeaderBytes; header += kDebugHeaderBytes) {
    if (block.size() < header + kDebugHeaderBytes || !has_debug_header(block.subspan(header - kDebugHeaderBytes)))
      break;
    saw_debug_hooks_ = true;
    if (block[header - kDebugHeaderBytes + 8] != std::byte{'o'}) continue;  // not of the domain of objects
    slack_bytes_ = kBlockSlackBytes + kDebugTrailerBytes * header / kDebugHeaderBytes;
    const bool recognised = recognise_plain(address + header, block.subspan(header), object);
    slack_bytes_ = kBlockSlackBytes;
    if (!recognised) continue;
    object.offset += header;
    return true;
  }
  return false;
}

// The allocator's debug hooks (PYTHONMALLOC=debug) put a header before what they hand out: the size, a letter for the
// domain, and seven forbidden bytes, 0xfb to 3.7 and 0xfd since (Objects/obmalloc.c).
inline bool ObjectReader::has_debug_header(std::span<const std::byte> block) {
  const std::uint64_t word = word_at(block, 8);
  const std::uint64_t letter = word & 0xff;
  const std::uint64_t forbidden = word >> 8;
  return (letter == 'o' || letter == 'm' || letter == 'r') &&
         (forbidden == 0xfdfdfdfdfdfdfd || forbidden == 0xfbfbfbfbfbfbfb);
}

inline bool ObjectReader::recognise_plain(Addr address, std::span<const std::byte> block, ObjectView& object) {
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

inline std::uint64_t ObjectReader::size_of(const ObjectView& object, std::span<const std::byte> bytes) {
  if (object.type.size_rule == SizeRule::kFixed) return std::uint64_t{object.type.basicsize} + object.type.header_bytes;
  return size_by_rule(object, bytes);
}

}  // namespace heapcore
