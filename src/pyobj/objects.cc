#include "pyobj/objects.h"

#include <cstdlib>
#include <cstring>

#include "pyobj/strings.h"

namespace heapcore {
namespace {

std::uint64_t word_at(std::span<const std::byte> bytes, std::size_t offset) {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// The word of a field, or 0 if the bytes at hand end before it (a damaged type says a smaller basicsize than is true).
std::uint64_t word_of(std::span<const std::byte> bytes, const Field& field) {
  return field.offset + 8 <= bytes.size() ? word_at(bytes, field.offset) : 0;
}

// No count reaches this: it would take as many references, of 8 bytes each, as an address space holds.
constexpr std::uint64_t kRefcntBound = std::uint64_t{1} << 40;
// Below this a count is no address of any mapping.
constexpr std::uint64_t kLowestMapped = 1 << 16;

}  // namespace

bool ObjectReader::plausible_refcnt(std::uint64_t refcnt) {
  if (refcnt < kLowestMapped) return refcnt != 0;
  if (refcnt >= kRefcntBound) return false;
  if (!is_aligned(refcnt, 8)) return true;
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
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t offset = candidates[i];
    if (offset + layout_.PyObject.size_bytes > block.size()) break;
    const TypeBrief& type = cache_.lookup(word_at(block, offset + layout_.PyObject.ob_type.offset));
    if (type.id == kNoType || type.header_bytes != offset || type.basicsize > block.size() - offset) continue;
    if (!plausible_refcnt(word_at(block, offset + layout_.PyObject.ob_refcnt.offset))) continue;
    object.tracked = false;
    object.gc_next = 0;
    if (offset != 0 && !read_gc_head(block.subspan(offset - gc_bytes), object)) continue;
    object.address = address + offset;
    object.type = type;
    object.offset = offset;
    return true;
  }
  return false;
}

bool ObjectReader::at(Addr address, ObjectView& object) {
  Addr type_address = 0;
  if (!reader_.try_load(address + layout_.PyObject.ob_type.offset, type_address)) return false;
  const TypeBrief& type = cache_.lookup(type_address);
  if (type.id == kNoType) return false;
  object = {};
  object.address = address;
  object.type = type;
  object.offset = type.header_bytes;
  if (type.header_bytes == 0) return true;
  const std::span<const std::byte> head = reader_.span(address - traits_.gc_head_bytes(), traits_.gc_head_bytes());
  return !head.empty() && read_gc_head(head, object);
}

std::uint64_t ObjectReader::str_size(const ObjectView& object, std::span<const std::byte> bytes) const {
  // unicode.__sizeof__ (3.11): struct and characters, then what hangs off it unless it is shared with the characters.
  const std::uint64_t length = word_of(bytes, layout_.PyASCIIObject.length);
  const auto state = static_cast<std::uint32_t>(word_of(bytes, layout_.PyASCIIObject.state));
  const std::uint64_t kind = state >> 2 & 7;
  const bool compact = (state >> 5 & 1) != 0;
  const bool ascii = (state >> 6 & 1) != 0;
  if (compact && ascii) return layout_.PyASCIIObject.size_bytes + length + 1;
  const Field& wstr = layout_.PyASCIIObject.wstr;
  const std::uint64_t utf8 = word_of(bytes, layout_.PyCompactUnicodeObject.utf8);
  const std::uint64_t utf8_length = word_of(bytes, layout_.PyCompactUnicodeObject.utf8_length);
  std::uint64_t size = 0;
  Addr data = 0;
  if (compact) {
    data = object.address + layout_.PyCompactUnicodeObject.size_bytes;
    size = layout_.PyCompactUnicodeObject.size_bytes + (length + 1) * kind;
  } else {
    data = word_of(bytes, layout_.PyUnicodeObject.data);
    size = layout_.PyUnicodeObject.size_bytes + (data == 0 ? 0 : (length + 1) * kind);
  }
  const Addr wide = wstr.present() ? word_of(bytes, wstr) : 0;
  if (wide != 0 && wide != data) size += (word_of(bytes, layout_.PyCompactUnicodeObject.wstr_length) + 1) * 4;
  if (utf8 != 0 && utf8 != data) size += utf8_length + 1;
  return size;
}

std::uint64_t ObjectReader::dict_size(const ObjectView& object, std::span<const std::byte> bytes) {
  std::uint64_t size = object.type.basicsize;
  const std::optional<DictKeys> keys = read_dict_keys(reader_, traits_, word_of(bytes, layout_.PyDictObject.ma_keys));
  if (!keys) return size;
  if (word_of(bytes, layout_.PyDictObject.ma_values) != 0) size += (keys->nentries + keys->usable) * 8;
  // Shared keys are counted with the type that owns them; the static empty keys with nobody.
  if (keys->refcnt == 1) size += keys->size_bytes;
  return size;
}

std::uint64_t ObjectReader::type_size(const ObjectView& object, std::span<const std::byte> bytes) {
  const std::uint64_t flags = word_of(bytes, layout_.PyTypeObject.tp_flags);
  if ((flags & tp_flag::kHeapType) == 0) return layout_.PyTypeObject.size_bytes;
  std::uint64_t size = layout_.PyHeapTypeObject.size_bytes;
  Addr keys_address = 0;
  if (reader_.try_load(object.address + layout_.PyHeapTypeObject.ht_cached_keys.offset, keys_address) && keys_address != 0) {
    if (const auto keys = read_dict_keys(reader_, traits_, keys_address)) size += keys->size_bytes;
  }
  return size;
}

std::uint64_t ObjectReader::code_size(const ObjectView& object, std::span<const std::byte> bytes) {
  std::uint64_t size = object.type.basicsize + word_of(bytes, layout_.PyVarObject.ob_size) * object.type.itemsize;
  // _PyCodeObjectExtra: ce_size, then that many pointers.
  const Addr extra = word_of(bytes, layout_.PyCodeObject.co_extra);
  std::int64_t ce_size = 0;
  if (extra != 0 && reader_.try_load(extra, ce_size) && ce_size > 0 && ce_size < 256) size += 8 + std::uint64_t(ce_size) * 8;
  return size;
}

// Locals and evaluation stack of a code object, in bytes.
std::uint64_t ObjectReader::frame_slots(Addr code) {
  std::uint32_t nlocalsplus = 0;
  std::uint32_t stacksize = 0;
  if (!reader_.try_load(code + layout_.PyCodeObject.co_nlocalsplus.offset, nlocalsplus) ||
      !reader_.try_load(code + layout_.PyCodeObject.co_stacksize.offset, stacksize)) {
    return 0;
  }
  return (std::uint64_t{nlocalsplus} + stacksize) * 8;
}

std::uint64_t ObjectReader::size_of(const ObjectView& object, std::span<const std::byte> bytes) {
  const TypeBrief& type = object.type;
  const auto ob_size = [&] {
    return static_cast<std::uint64_t>(std::llabs(static_cast<std::int64_t>(word_of(bytes, layout_.PyVarObject.ob_size))));
  };
  std::uint64_t size = type.basicsize;
  switch (type.size_rule) {
    case SizeRule::kFixed: break;
    case SizeRule::kVar: size += ob_size() * type.itemsize; break;
    case SizeRule::kInt: {
      std::uint64_t digits = ob_size();
      if (digits == 0 && traits_.int_counts_one_digit) digits = 1;
      size = layout_.PyLongObject.ob_digit.offset + digits * 4;
      break;
    }
    case SizeRule::kStr: size = str_size(object, bytes); break;
    case SizeRule::kList: size += word_of(bytes, layout_.PyListObject.allocated) * 8; break;
    case SizeRule::kDict: size = dict_size(object, bytes); break;
    case SizeRule::kOrderedDict: {
      size = dict_size(object, bytes) + word_of(bytes, layout_.PyODictObject.od_fast_nodes_size) * 8;
      constexpr std::uint64_t kNodeBytes = 32;  // struct _odictnode: key, hash, next, prev
      size += word_of(bytes, layout_.PyDictObject.ma_used) * kNodeBytes;
      break;
    }
    case SizeRule::kSet: {
      const bool small = word_of(bytes, layout_.PySetObject.table) == object.address + layout_.PySetObject.smalltable.offset;
      if (!small) size += (word_of(bytes, layout_.PySetObject.mask) + 1) * 16;
      break;
    }
    case SizeRule::kDeque: {
      constexpr std::uint64_t kBlockItems = 64;  // BLOCKLEN
      constexpr std::uint64_t kBlockBytes = (kBlockItems + 2) * 8;
      const std::uint64_t used = word_of(bytes, layout_.dequeobject.leftindex) + ob_size();
      size += (used + kBlockItems - 1) / kBlockItems * kBlockBytes;
      break;
    }
    case SizeRule::kByteArray: size += word_of(bytes, layout_.PyByteArrayObject.ob_alloc); break;
    case SizeRule::kType: size = type_size(object, bytes); break;
    case SizeRule::kCode: size = code_size(object, bytes); break;
    case SizeRule::kFrame: {
      // frame.__sizeof__ (3.11): up to the embedded frame's locals, and its slots, wherever the frame itself lies.
      const Addr frame = word_of(bytes, layout_.PyFrameObject.f_frame);
      Addr code = 0;
      reader_.try_load(frame + layout_._PyInterpreterFrame.f_code.offset, code);
      size = layout_.PyFrameObject._f_frame_data.offset + layout_._PyInterpreterFrame.localsplus.offset + frame_slots(code);
      break;
    }
    case SizeRule::kGenerator:
      size = layout_.PyGenObject.gi_iframe.offset + layout_._PyInterpreterFrame.localsplus.offset +
             frame_slots(word_of(bytes, layout_.PyGenObject.gi_code));
      break;
  }
  return size + type.header_bytes;
}

}  // namespace heapcore
