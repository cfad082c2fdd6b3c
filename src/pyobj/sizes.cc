// ObjectReader::size_of: the __sizeof__ of every type that has one of its own, as CPython computes it.
#include <cstring>

#include "pyobj/ndarray.h"
#include "pyobj/objects.h"
#include "pyobj/refcounts.h"
#include "pyobj/strings.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kWordBytes = 8;
// More than these of anything is damage, not a size.
constexpr std::uint64_t kMaxFormatCodes = 1 << 16;
constexpr std::size_t kMaxFormatText = 1 << 16;

// An integer field of at most 8 bytes, or 0 if the bytes at hand end before it (a damaged type says a smaller basicsize
// than is true) or the layout lacks it.
std::uint64_t word_of(std::span<const std::byte> bytes, const Field& field) {
  std::uint64_t value = 0;
  const std::size_t width = field.width_bytes < kWordBytes ? field.width_bytes : kWordBytes;
  if (field.present() && field.offset + width <= bytes.size()) std::memcpy(&value, bytes.data() + field.offset, width);
  return value;
}

}  // namespace

std::uint64_t ObjectReader::str_size(const ObjectView& object, std::span<const std::byte> bytes) const {
  // unicode.__sizeof__ (3.11): struct and characters, then what hangs off it unless it is shared with the characters.
  const std::uint64_t length = word_of(bytes, layout_.PyASCIIObject.length);
  const auto [kind, compact, ascii] =
      unpack_str_state(traits_, static_cast<std::uint32_t>(word_of(bytes, layout_.PyASCIIObject.state)));
  const Field& wstr = layout_.PyASCIIObject.wstr;
  if (compact && ascii) {
    const bool wide_too = wstr.present() && word_of(bytes, wstr) != 0;
    return layout_.PyASCIIObject.size_bytes + (length + 1) * (wide_too ? 5 : 1);
  }
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
  if (layout_.PyDictObject.ma_table.present()) {  // 2.7
    const Addr small = object.address + layout_.PyDictObject.ma_smalltable.offset;
    const bool own = word_of(bytes, layout_.PyDictObject.ma_table) != small;
    return size + (own ? (word_of(bytes, layout_.PyDictObject.ma_mask) + 1) * layout_.PyDictEntry.size_bytes : 0);
  }
  const std::optional<DictKeys> keys = read_dict_keys(reader_, traits_, word_of(bytes, layout_.PyDictObject.ma_keys));
  if (!keys) return size;
  if (word_of(bytes, layout_.PyDictObject.ma_values) != 0) {
    const bool by_capacity = layout_.PyDictKeysObject.dk_size.present();  // to 3.10
    size += (by_capacity ? keys->capacity : keys->nentries + keys->usable) * 8;
  }
  // Shared keys are counted with the type that owns them; the static empty keys with nobody.
  if (keys->refcnt == 1) size += keys->size_bytes;
  return size;
}

std::uint64_t ObjectReader::type_size(const ObjectView& object, std::span<const std::byte> bytes) {
  const std::uint64_t flags = word_of(bytes, layout_.PyTypeObject.tp_flags);
  if (!layout_.PyHeapTypeObject.ht_cached_keys.present()) {  // 2.7: as any object of variable size
    return object.type.basicsize + word_of(bytes, layout_.PyVarObject.ob_size) * object.type.itemsize;
  }
  if ((flags & tp_flag::kHeapType) == 0) return layout_.PyTypeObject.size_bytes;
  std::uint64_t size = layout_.PyHeapTypeObject.size_bytes;
  Addr keys_address = 0;
  if (reader_.try_load(object.address + layout_.PyHeapTypeObject.ht_cached_keys.offset, keys_address) &&
      keys_address != 0) {
    if (const auto keys = read_dict_keys(reader_, traits_, keys_address)) size += keys->size_bytes;
  }
  return size;
}

std::uint64_t ObjectReader::code_size(const ObjectView& object, std::span<const std::byte> bytes) {
  // _PyObject_VAR_SIZE rounds up to whole pointers; object.__sizeof__ does not.
  const std::uint64_t items_bytes = word_of(bytes, layout_.PyVarObject.ob_size) * object.type.itemsize;
  std::uint64_t size = align_up(object.type.basicsize + items_bytes, kWordBytes);
  // _PyCodeObjectExtra: ce_size, then that many pointers.
  const Addr extra = word_of(bytes, layout_.PyCodeObject.co_extra);
  std::int64_t ce_size = 0;
  if (extra != 0 && reader_.try_load(extra, ce_size) && ce_size > 0 && ce_size < 256)
    size += 8 + std::uint64_t(ce_size) * 8;
  const auto& fields = layout_.PyCodeObject;
  if (word_of(bytes, fields.co_cell2arg) != 0) size += tuple_length(word_of(bytes, fields.co_cellvars)) * kWordBytes;
  if (word_of(bytes, fields.co_opcache) != 0) {
    constexpr std::uint64_t kCodeUnitBytes = 2;  // co_opcache_map has a byte for each
    size += tuple_length(word_of(bytes, fields.co_code)) / kCodeUnitBytes;
    size += word_of(bytes, fields.co_opcache_size) * layout_._PyOpcache.size_bytes;
  }
  return size;
}

// Locals and evaluation stack of a code object, in bytes.
std::uint64_t ObjectReader::frame_slots(Addr code) {
  const auto& fields = layout_.PyCodeObject;
  std::uint32_t nlocalsplus = 0;
  std::uint32_t stacksize = 0;
  if (!fields.co_nlocalsplus.present()) {  // to 3.10
    std::uint32_t nlocals = 0;
    Addr cells = 0;
    Addr frees = 0;
    if (!reader_.try_load(code + fields.co_nlocals.offset, nlocals) ||
        !reader_.try_load(code + fields.co_stacksize.offset, stacksize) ||
        !reader_.try_load(code + fields.co_cellvars.offset, cells) ||
        !reader_.try_load(code + fields.co_freevars.offset, frees)) {
      return 0;
    }
    return (std::uint64_t{nlocals} + stacksize + tuple_length(cells) + tuple_length(frees)) * 8;
  }
  if (!reader_.try_load(code + fields.co_nlocalsplus.offset, nlocalsplus) ||
      !reader_.try_load(code + fields.co_stacksize.offset, stacksize)) {
    return 0;
  }
  return (std::uint64_t{nlocalsplus} + stacksize) * 8;
}

// The code object of a _PyInterpreterFrame (3.11+). From 3.14 on, low bits of the reference are flags.
Addr ObjectReader::frame_code(Addr frame) {
  const auto& fields = layout_._PyInterpreterFrame;
  Addr code = 0;
  reader_.try_load(frame + (fields.f_code.present() ? fields.f_code.offset : fields.f_executable.offset), code);
  return align_down(code, 8);
}

// A BytesIO's buffer is a bytes object; counted unless somebody else holds it too.
std::uint64_t ObjectReader::bytesio_buffer_size(Addr buffer) {
  ObjectView object;
  const std::span<const std::byte> head = reader_.span(buffer, layout_.PyObject.size_bytes);
  if (buffer == 0 || head.empty() || !is_own_buffer(traits_, head)) return 0;
  if (!at(buffer, object) || object.type.size_rule != SizeRule::kVar) return 0;
  return size_of(object, reader_.span_to_end(buffer));
}

// A Struct's format codes, up to and with the one whose fmtdef is null.
std::uint64_t ObjectReader::struct_codes_size(Addr codes) {
  const std::uint64_t stride = layout_._formatcode.size_bytes;
  for (std::uint64_t count = 0; count < kMaxFormatCodes && stride != 0; ++count) {
    Addr fmtdef = 0;
    if (!reader_.try_load(codes + count * stride + layout_._formatcode.fmtdef.offset, fmtdef)) return 0;
    if (fmtdef == 0) return (count + 1) * stride;
  }
  return 0;
}

// The sizes of what hangs off a StgInfo or StgDictObject, whose fields are named alike.
template <typename Fields>
std::uint64_t ObjectReader::ctypes_extra_size(const Fields& fields, std::span<const std::byte> bytes) {
  std::uint64_t size = word_of(bytes, fields.ndim) * kWordBytes;
  const Addr format = word_of(bytes, fields.format);
  if (format != 0) {
    if (const auto text = reader_.c_string(format, kMaxFormatText)) size += text->size() + 1;
  }
  if (word_of(bytes, fields.ffi_elements) != 0) size += (word_of(bytes, fields.length) + 1) * kWordBytes;
  return size;
}

// CType_Type.__sizeof__ (3.13): by the metatype's sizes, and what the StgInfo behind the heap type holds.
std::uint64_t ObjectReader::ctypes_type_size(const ObjectView& object, std::span<const std::byte> bytes) {
  const std::uint64_t slots = word_of(bytes, layout_.PyVarObject.ob_size);
  const std::uint64_t info_offset = align_up(layout_.PyHeapTypeObject.size_bytes, 16);
  const std::uint64_t size = object.type.basicsize + slots * object.type.itemsize;
  if (bytes.size() < info_offset) return size;
  return size + ctypes_extra_size(layout_.StgInfo, bytes.subspan(info_offset));
}

// ctypes' type dict counts its own struct twice over the dict's: upstream does so too.
std::uint64_t ObjectReader::stgdict_size(const ObjectView& object, std::span<const std::byte> bytes) {
  const auto& fields = layout_.StgDictObject;
  return dict_size(object, bytes) + fields.size_bytes - layout_.PyDictObject.size_bytes +
         ctypes_extra_size(fields, bytes);
}

std::uint64_t ObjectReader::element_extra_size(Addr extra) {
  const auto& fields = layout_.ElementObjectExtra;
  const std::span<const std::byte> bytes = reader_.span(extra, fields.size_bytes);
  if (extra == 0 || bytes.empty()) return 0;
  const bool inline_children = word_of(bytes, fields.children) == extra + fields._children.offset;
  return fields.size_bytes + (inline_children ? 0 : word_of(bytes, fields.allocated) * kWordBytes);
}

std::uint64_t ObjectReader::tuple_length(Addr tuple) {
  std::uint64_t length = 0;
  reader_.try_load(tuple + layout_.PyVarObject.ob_size.offset, length);
  return length;
}

std::uint64_t ObjectReader::size_by_rule(const ObjectView& object, std::span<const std::byte> bytes) {
  const TypeBrief& type = object.type;
  const auto ob_size = [&] {
    const std::uint64_t value = word_of(bytes, layout_.PyVarObject.ob_size);
    return value >> 63 != 0 ? -value : value;  // unsigned: the most negative value has no positive counterpart
  };
  std::uint64_t size = type.basicsize;
  switch (type.size_rule) {
    case SizeRule::kFixed:
      break;
    case SizeRule::kVar:
      size += ob_size() * type.itemsize;
      break;
    case SizeRule::kInt: {
      std::uint64_t digits =
          traits_.long_rep == LongRep::kLvTag ? word_of(bytes, layout_.PyLongObject.lv_tag) >> 3 : ob_size();
      if (digits == 0 && traits_.int_counts_one_digit) digits = 1;
      if (!traits_.int_size_from_type) size = layout_.PyLongObject.ob_digit.offset;
      size += digits * 4;
      break;
    }
    case SizeRule::kStr:
      size = str_size(object, bytes);
      break;
    case SizeRule::kByteStr:  // of a subclass's instance too, whatever it adds
      size = layout_.PyStringObject.ob_sval.offset + 1 + ob_size();
      break;
    case SizeRule::kWideStr: {
      const std::uint64_t buffer_bytes =
          (word_of(bytes, layout_.PyUnicodeObject.length) + 1) * traits_.unicode_unit_bytes;
      // In a longer one nothing is left of an object's type.
      if (buffer_bytes < 2 * kWordBytes) note_buffer(word_of(bytes, layout_.PyUnicodeObject.str));
      size = layout_.PyUnicodeObject.size_bytes + buffer_bytes;
      break;
    }
    case SizeRule::kList:
      size += word_of(bytes, layout_.PyListObject.allocated) * 8;
      break;
    case SizeRule::kDict:
      size = dict_size(object, bytes);
      break;
    case SizeRule::kOrderedDict: {
      size = dict_size(object, bytes) + word_of(bytes, layout_.PyODictObject.od_fast_nodes_size) * 8;
      constexpr std::uint64_t kNodeBytes = 32;  // struct _odictnode: key, hash, next, prev
      size += word_of(bytes, layout_.PyDictObject.ma_used) * kNodeBytes;
      break;
    }
    case SizeRule::kSet: {
      const bool small =
          word_of(bytes, layout_.PySetObject.table) == object.address + layout_.PySetObject.smalltable.offset;
      if (!small) size += (word_of(bytes, layout_.PySetObject.mask) + 1) * 16;
      break;
    }
    case SizeRule::kDeque: {
      const std::uint64_t items = traits_.deque_block_items;
      const std::uint64_t block_bytes = (items + 2) * kWordBytes;
      const Field& len = layout_.dequeobject.len;  // 2.7
      const std::uint64_t used =
          word_of(bytes, layout_.dequeobject.leftindex) + (len.present() ? word_of(bytes, len) : ob_size());
      size += (used + items - 1) / items * block_bytes;
      break;
    }
    case SizeRule::kByteArray: {
      const std::uint64_t alloc = word_of(bytes, layout_.PyByteArrayObject.ob_alloc);
      // From 3.15 on the buffer is a bytes object.
      const bool in_bytes = alloc != 0 && layout_.PyByteArrayObject.ob_bytes_object.present();
      if (alloc != 0 && !in_bytes) note_buffer(word_of(bytes, layout_.PyByteArrayObject.ob_bytes));
      size += alloc + (in_bytes ? layout_.PyBytesObject.ob_sval.offset + 1 : 0);
      break;
    }
    case SizeRule::kBuffered:
      if (word_of(bytes, layout_.buffered.buffer) != 0) size += word_of(bytes, layout_.buffered.buffer_size);
      break;
    case SizeRule::kBytesIO:
      if (layout_.bytesio.buf_size.present()) {  // 2.7: plain memory
        if (word_of(bytes, layout_.bytesio.buf) != 0) size += word_of(bytes, layout_.bytesio.buf_size);
        break;
      }
      size += bytesio_buffer_size(word_of(bytes, layout_.bytesio.buf));
      break;
    case SizeRule::kArray: {
      std::uint32_t itemsize = 0;
      const Addr descr = word_of(bytes, layout_.arrayobject.ob_descr);
      if (!reader_.try_load(descr + layout_.arraydescr.itemsize.offset, itemsize)) lacked_array_items_ = true;
      size += word_of(bytes, layout_.arrayobject.allocated) * itemsize;
      if (word_of(bytes, layout_.arrayobject.allocated) != 0) note_buffer(word_of(bytes, layout_.arrayobject.ob_item));
      break;
    }
    case SizeRule::kStruct:
      size += struct_codes_size(word_of(bytes, layout_.PyStructObject.s_codes));
      break;
    case SizeRule::kCtypesType:
      size = ctypes_type_size(object, bytes);
      break;
    case SizeRule::kStgDict:
      size = traits_.stgdict_has_sizeof ? stgdict_size(object, bytes) : dict_size(object, bytes);
      break;
    case SizeRule::kElement:
      size += element_extra_size(word_of(bytes, layout_.ElementObject.extra));
      break;
    case SizeRule::kProduct:
      size += tuple_length(word_of(bytes, layout_.productobject.pools)) * kWordBytes;
      note_buffer(word_of(bytes, layout_.productobject.indices));
      break;
    case SizeRule::kCombinations:
      size += word_of(bytes, layout_.combinationsobject.r) * kWordBytes;
      note_buffer(word_of(bytes, layout_.combinationsobject.indices));
      break;
    case SizeRule::kPermutations:
      note_buffer(word_of(bytes, layout_.permutationsobject.indices));
      note_buffer(word_of(bytes, layout_.permutationsobject.cycles));
      size += (tuple_length(word_of(bytes, layout_.permutationsobject.pool)) +
               word_of(bytes, layout_.permutationsobject.r)) *
              kWordBytes;
      break;
    case SizeRule::kDecimal: {
      constexpr std::uint64_t kNotItsOwnData = 32 | 64 | 128;  // MPD_STATIC_DATA, MPD_SHARED_DATA, MPD_CONST_DATA
      const bool own = (word_of(bytes, layout_.PyDecObject.flags) & 0xff & kNotItsOwnData) == 0;
      if (own) size += word_of(bytes, layout_.PyDecObject.alloc) * kWordBytes;
      break;
    }
    case SizeRule::kNdarray:
      size += read_ndarray(reader_, object.address).extra_bytes();
      break;
    case SizeRule::kType:
      size = type_size(object, bytes);
      break;
    case SizeRule::kCode:
      size = code_size(object, bytes);
      break;
    case SizeRule::kFrame: {
      if (layout_.PyFrameObject.f_code.present()) {
        // To 3.10 the slots are the frame's own; sizeof has one already.
        size =
            layout_.PyFrameObject.size_bytes - kWordBytes + frame_slots(word_of(bytes, layout_.PyFrameObject.f_code));
        break;
      }
      // frame.__sizeof__ (3.11): up to the embedded frame's locals, and its slots, wherever the frame itself lies.
      const Addr code = frame_code(word_of(bytes, layout_.PyFrameObject.f_frame));
      size = layout_.PyFrameObject._f_frame_data.offset + layout_._PyInterpreterFrame.localsplus.offset +
             frame_slots(code);
      break;
    }
    case SizeRule::kGenerator: {
      const Field& embedded = layout_.PyGenObject.gi_iframe;
      if (!embedded.present()) break;  // to 3.10 the frame is an object of its own
      const Field& gi_code = layout_.PyGenObject.gi_code;
      const Addr code = gi_code.present() ? word_of(bytes, gi_code) : frame_code(object.address + embedded.offset);
      size = embedded.offset + layout_._PyInterpreterFrame.localsplus.offset + frame_slots(code);
      break;
    }
  }
  return size + type.header_bytes;
}

}  // namespace heapcore
