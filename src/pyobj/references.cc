#include "pyobj/references.h"

#include <fmt/format.h>

#include <algorithm>

#include "pyobj/strings.h"

namespace heapcore {

std::string_view ref_kind_name(RefKind kind) {
  switch (kind) {
    case RefKind::kVisited:
      return "visited";
    case RefKind::kOwned:
      return "owned";
    case RefKind::kBuffer:
      return "buffer";
    case RefKind::kWeak:
      return "weak";
    case RefKind::kConservative:
      return "conservative";
  }
  return "";
}

ReferenceReader::ReferenceReader(const Snapshot& snapshot, const PyRuntime& runtime, TypeTable& types)
    : snapshot_(snapshot),
      runtime_(runtime),
      traits_(runtime.traits),
      layout_(*runtime.traits.layout),
      types_(types),
      objects_(snapshot.space),
      elsewhere_(snapshot.space) {
  find_general_lookup();
}

ReferenceReader::~ReferenceReader() = default;

void ReferenceReader::damaged(Addr object, const char* what) {
  findings_.add({"references-damaged", Room::kPyobj, object, what});
}

std::span<const std::byte> ReferenceReader::partial_words(Addr object, Addr at, std::uint64_t count) {
  const std::span<const std::byte> there = elsewhere_.span_to_end(at);
  damaged(object, "an object's items reach beyond what is in the snapshot; those that are there are followed");
  return there.first(std::min<std::uint64_t>(there.size() / kWordBytes, count) * kWordBytes);
}

void ReferenceReader::visit_words(Bytes bytes, std::uint64_t begin, std::uint64_t end, const Sink& visit) {
  constexpr Addr kLowestMapped = 1 << 12;
  constexpr Addr kAddressesEnd = Addr{1} << 56;  // of user space, five-level page tables included
  for (std::uint64_t at = begin; at + kWordBytes <= end && at + kWordBytes <= bytes.size(); at += kWordBytes) {
    const Addr target = word(bytes, at);
    if (target >= kLowestMapped && target < kAddressesEnd && is_aligned(target, kWordBytes))
      visit(target, RefKind::kConservative, EdgeName{What::kWord, "", at});
  }
}

std::uint64_t ReferenceReader::tuple_length(Addr tuple) {
  std::uint64_t length = 0;
  if (tuple != 0) elsewhere_.try_load(tuple + layout_.PyVarObject.ob_size.offset, length);
  return length;
}

// What is not described, and a __dict__ behind the items of a var-sized object.
void ReferenceReader::visit_more(const ObjectView& object, const ReferencePlan& plan, Bytes bytes, const Sink& visit) {
  for (const ReferencePlan::Words& words : plan.words) visit_words(bytes, words.begin, words.end, visit);
  if (plan.dict_offset == 0) return;
  // _PyObject_GetDictPtr: counted from the end of the object, its items and padding included.
  const auto ob_size = static_cast<std::int64_t>(field(bytes, layout_.PyVarObject.ob_size));
  const std::uint64_t items = ob_size < 0 ? -static_cast<std::uint64_t>(ob_size) : static_cast<std::uint64_t>(ob_size);
  if (items > kMaxChain) return damaged(object.address, "an object's length is damaged; its __dict__ was not found");
  const std::uint64_t end = align_up(plan.basicsize + items * plan.itemsize, kWordBytes);
  const std::uint64_t at = end + static_cast<std::uint64_t>(std::int64_t{plan.dict_offset});
  if (at > end || at + kWordBytes > bytes.size()) return;
  visit(word(bytes, at), plan.inner, EdgeName{What::kField, "__dict__"});
}

// Structs with some condition on their references.
void ReferenceReader::visit_by_struct(const ObjectView& object, const ReferencePlan& plan, Bytes bytes,
                                      const Sink& visit) {
  switch (plan.struct_id) {
    case StructId::kPyDateTime_Time:
    case StructId::kPyDateTime_DateTime: {
      const bool is_time = plan.struct_id == StructId::kPyDateTime_Time;
      const Field& has = is_time ? layout_.PyDateTime_Time.hastzinfo : layout_.PyDateTime_DateTime.hastzinfo;
      const Field& zone = is_time ? layout_.PyDateTime_Time.tzinfo : layout_.PyDateTime_DateTime.tzinfo;
      if (field(bytes, has) != 0) visit(field(bytes, zone), plan.inner, EdgeName{What::kField, "tzinfo"});
      return;
    }
    case StructId::kteedataobject: {
      const Field& values = layout_.teedataobject.values;
      const std::uint64_t count =
          std::min<std::uint64_t>(field(bytes, layout_.teedataobject.numread), values.width_bytes / kWordBytes);
      for (std::uint64_t i = 0; i < count && values.offset + (i + 1) * kWordBytes <= bytes.size(); ++i)
        visit(word(bytes, values.offset + i * kWordBytes), plan.inner, EdgeName{What::kItem, "", i});
      return;
    }
    case StructId::ksimplequeueobject: {  // 3.13+: a ring
      const auto& fields = layout_.simplequeueobject;
      const std::uint64_t capacity = field(bytes, fields.buf_items_cap);
      const std::uint64_t first = field(bytes, fields.buf_get_idx);
      const Addr ring = field(bytes, fields.buf_items);
      if (ring == 0 || capacity == 0 || first >= capacity) return;
      visit(ring, RefKind::kBuffer, EdgeName{What::kField, "buf.items"});
      const Bytes items = words_at(object.address, ring, capacity);
      if (items.size() != capacity * kWordBytes) return;
      const std::uint64_t count = std::min(field(bytes, fields.buf_num_items), capacity);
      for (std::uint64_t i = 0; i < count; ++i)
        visit(word(items, (first + i) % capacity * kWordBytes), plan.inner, EdgeName{What::kItem, "", i});
      return;
    }
    case StructId::kElementObject:
      return visit_element(object, plan, bytes, visit);
    default:
      return;
  }
}

void ReferenceReader::visit_other(const ObjectView& object, const ReferencePlan& plan, std::span<const std::byte> bytes,
                                  const Sink& visit) {
  switch (plan.kind) {
    case Kind::kDict:
    case Kind::kOrderedDict:
    case Kind::kDefaultDict:
    case Kind::kStgDict:
      return visit_dict27(object, plan, bytes, visit);
    case Kind::kStr:
    case Kind::kUnicode:
      return visit_str(object, bytes, visit);
    case Kind::kByteArray: {
      const Addr inside = field(bytes, layout_.PyByteArrayObject.ob_bytes_object);
      if (inside != 0) return visit(inside, RefKind::kOwned, EdgeName{What::kField, "ob_bytes_object"});
      return visit(field(bytes, layout_.PyByteArrayObject.ob_bytes), RefKind::kBuffer,
                   EdgeName{What::kField, "ob_bytes"});
    }
    case Kind::kType:
      return visit_type(object, plan, bytes, visit);
    case Kind::kCode:
      return visit_code(object, plan, bytes, visit);
    case Kind::kFrame:
      return visit_frame_object(object, plan, bytes, visit);
    case Kind::kGenerator:
    case Kind::kCoroutine:
    case Kind::kAsyncGenerator:
      return visit_generator(object, plan, bytes, visit);
    case Kind::kModule:
      return visit_module(object, bytes, visit);
    case Kind::kDeque:
      return visit_deque(object, plan, bytes, visit);
    case Kind::kLruCache:
      return visit_lru_cache(object, plan, bytes, visit);
    case Kind::kArray:
      return visit(field(bytes, layout_.arrayobject.ob_item), RefKind::kBuffer, EdgeName{What::kField, "ob_item"});
    case Kind::kMemoryView:  // 2.7's holds the object itself, and once more with the view
      if (!layout_.PyMemoryViewObject.base.present()) return;
      return visit(field(bytes, layout_.PyMemoryViewObject.view_obj), plan.inner, EdgeName{What::kField, "view.obj"});
    case Kind::kNdarray:
      return visit_ndarray(object, bytes, visit);
    case Kind::kBuiltinFunction: {
      // mm_class is there only in a method that is told its class (METH_METHOD).
      constexpr std::uint32_t kMethMethod = 0x0200;
      std::uint32_t flags = 0;
      const Addr def = field(bytes, layout_.PyCFunctionObject.m_ml);
      const Field& ml_flags = layout_.PyMethodDef.ml_flags;
      if (!ml_flags.present() || !elsewhere_.try_load(def + ml_flags.offset, flags) || (flags & kMethMethod) == 0)
        return;
      return visit(field(bytes, layout_.PyCMethodObject.mm_class), plan.inner, EdgeName{What::kField, "mm_class"});
    }
    default:
      return visit_by_struct(object, plan, bytes, visit);
  }
}

}  // namespace heapcore
