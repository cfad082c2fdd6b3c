// Which blocks hold a Python object, where in the block it begins, and how large it is.
//
// A block (of obmalloc, or a malloc chunk in use) begins with what its type puts before the object:
//
//   no GC          | ob_refcnt | ob_type | ...
//   GC             | _gc_next | _gc_prev | ob_refcnt | ob_type | ...
//   pre-header     | values | dict | _gc_next | _gc_prev | ob_refcnt | ob_type | ...        (3.11, managed dict)
//
// so an object is recognised where ob_type is a type whose own flags demand exactly that place. Blocks that hold no object
// (keys tables, value arrays, item arrays, raw buffers) can hold a type's address at such a place too, as the second item of a
// list for instance; then what stands for the reference count is itself the address of an object, and the block is refused.
// A freed object has a count of 0, or the allocator's link in its place.
#pragma once

#include <cstdint>
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

  // Neighbours in a pool are mostly of one kind, so recognise() first tries the place where the last object began. Called at
  // the start of each pool, so that no answer depends on which pools a thread swept before.
  void start_pool() { likely_candidate_ = 0; }

  // Is there an object in the block at `address` with these bytes?
  bool recognise(Addr address, std::span<const std::byte> block, ObjectView& object);

  // The object at a known address, as a list of the collector names it.
  bool at(Addr address, ObjectView& object);

  // What sys.getsizeof would say. `bytes` begin at the object and reach at least over its fixed part.
  std::uint64_t size_of(const ObjectView& object, std::span<const std::byte> bytes);

  Reader& reader() { return reader_; }
  TypeCache& types() { return cache_; }

 private:
  bool recognise_at(std::uint32_t offset, Addr address, std::span<const std::byte> block, ObjectView& object);
  bool plausible_refcnt(std::uint64_t refcnt);
  bool read_gc_head(std::span<const std::byte> head, ObjectView& object) const;
  std::uint64_t str_size(const ObjectView& object, std::span<const std::byte> bytes) const;
  std::uint64_t dict_size(const ObjectView& object, std::span<const std::byte> bytes);
  std::uint64_t type_size(const ObjectView& object, std::span<const std::byte> bytes);
  std::uint64_t code_size(const ObjectView& object, std::span<const std::byte> bytes);
  std::uint64_t frame_slots(Addr code);
  std::uint64_t bytesio_buffer_size(Addr buffer);
  std::uint64_t struct_codes_size(Addr codes);
  std::uint64_t stgdict_size(const ObjectView& object, std::span<const std::byte> bytes);
  std::uint64_t element_extra_size(Addr extra);
  std::uint64_t tuple_length(Addr tuple);

  Reader reader_;
  const PyTraits& traits_;
  const PyLayout& layout_;
  TypeCache cache_;
  std::size_t likely_candidate_ = 0;
};

}  // namespace heapcore
