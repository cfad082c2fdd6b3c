#include "pyobj/objects.h"

namespace heapcore {

// A count this large may also be the address of an object, in a program at a fixed low address. Is it one of theirs?
bool ObjectReader::is_object_address(std::uint64_t refcnt) {
  Addr type = 0;
  return reader_.try_load(refcnt + layout_.PyObject.ob_type.offset, type) && cache_.lookup(type).id != kNoType;
}

bool ObjectReader::is_linked(const ObjectView& object) {
  const Addr node = object.address - traits_.gc_head_bytes();
  Addr prev = 0;
  Addr next_of_prev = 0;
  Addr prev_of_next = 0;
  if (!reader_.try_load(node + layout_.PyGC_Head._gc_prev.offset, prev) ||
      !reader_.try_load(align_down(prev, 4) + layout_.PyGC_Head._gc_next.offset, next_of_prev) ||
      align_down(next_of_prev, 4) == node) {
    return true;
  }
  return !reader_.try_load(object.gc_next + layout_.PyGC_Head._gc_prev.offset, prev_of_next) ||
         align_down(prev_of_next, 4) == node;
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
