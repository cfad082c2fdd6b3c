#include "pyobj/objects.h"

#include "pyobj/refcounts.h"

namespace heapcore {
namespace {

// As gc.get_objects() has it: neither what was frozen nor what a collection found to be unreachable.
bool is_tracked(std::uint8_t gc_bits) {
  return (gc_bits & (gc_bit::kTracked | gc_bit::kUnreachable | gc_bit::kFrozen)) == gc_bit::kTracked;
}

}  // namespace

// A count this large may also be the address of an object, in a program at a fixed low address. Is it one of theirs?
bool ObjectReader::is_object_address(std::uint64_t refcnt) {
  Addr type = 0;
  return reader_.try_load(refcnt + layout_.PyObject.ob_type.offset, type) && cache_.lookup(type).id != kNoType;
}

bool ObjectReader::recognise_in_page(Addr address, std::span<const std::byte> block, std::uint32_t header_bytes,
                                     ObjectView& object) {
  const bool hooked = block.size() >= kDebugHeaderBytes && has_debug_header(block);
  const std::uint32_t offset = header_bytes + (hooked ? kDebugHeaderBytes : 0);
  if (offset + layout_.PyObject.size_bytes > block.size()) return false;
  const std::span<const std::byte> bytes = block.subspan(offset);
  const TypeBrief& type = cache_.lookup(word_at(bytes, layout_.PyObject.ob_type.offset));
  if (type.id == kNoType || type.header_bytes != header_bytes) return false;
  // On a free list of the interpreter's, an object keeps its type.
  if (!is_referenced(traits_, bytes)) return false;
  const std::uint64_t least_bytes = type.size_rule == SizeRule::kStr
                                        ? layout_.PyASCIIObject.size_bytes + 1
                                        : std::uint64_t{type.basicsize} - kOptionalTailBytes;
  if (least_bytes > bytes.size()) return false;
  object.type = type;
  object.address = address + offset;
  object.offset = offset;
  object.gc_next = 0;
  object.tracked = is_tracked(std::to_integer<std::uint8_t>(bytes[layout_.PyObject.ob_gc_bits.offset]));
  saw_debug_hooks_ |= hooked;
  return true;
}

std::optional<bool> ObjectReader::leads_to(Addr neighbour, const Field& link, Addr node) {
  const Addr at = align_down(neighbour, 4) + link.offset;
  Addr target = 0;
  if (reader_.try_load(at, target)) return align_down(target, 4) == node;
  // What is not mapped is no neighbour; what is not dumped may be one.
  return reader_.space().state(at) == ByteState::kUnmapped ? std::optional(false) : std::nullopt;
}

bool ObjectReader::is_linked(const ObjectView& object) {
  const Addr node = object.address - traits_.gc_head_bytes();
  Addr prev = 0;
  if (!reader_.try_load(node + layout_.PyGC_Head._gc_prev.offset, prev)) return true;
  return leads_to(prev, layout_.PyGC_Head._gc_next, node).value_or(true) ||
         leads_to(object.gc_next, layout_.PyGC_Head._gc_prev, node).value_or(true);
}

bool ObjectReader::at(Addr address, ObjectView& object) {
  Addr type_address = 0;
  if (!reader_.try_load(address + layout_.PyObject.ob_type.offset, type_address)) return false;
  const TypeBrief type = cache_.lookup(type_address);
  if (type.id == kNoType) return false;
  object = {};
  object.address = address;
  object.type = type;
  // Static types lie where the linker put them; they have no head, though other types do.
  if (type.size_rule == SizeRule::kType || type.size_rule == SizeRule::kCtypesType) {
    std::uint64_t flags = 0;
    reader_.try_load(address + layout_.PyTypeObject.tp_flags.offset, flags);
    if ((flags & tp_flag::kHeapType) == 0) {
      if (!traits_.static_types_count_header) object.type.header_bytes = 0;
      return true;
    }
  }
  object.offset = type.header_bytes;
  if (traits_.gc_head == GcHead::kNone) {
    std::uint8_t bits = 0;
    if (!reader_.try_load(address + layout_.PyObject.ob_gc_bits.offset, bits)) return false;
    object.tracked = is_tracked(bits);
    return true;
  }
  if (type.header_bytes == 0) return true;
  const std::span<const std::byte> head = reader_.span(address - traits_.gc_head_bytes(), traits_.gc_head_bytes());
  return !head.empty() && read_gc_head(head, object);
}

}  // namespace heapcore
