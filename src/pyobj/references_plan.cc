// Plans: which words of a type's instances are references. Made once a type, of what kinds.def says of the structs
// along the chain of bases, and of what the types themselves say: slots, the place of __dict__.
#include <algorithm>
#include <cstddef>

#include "pyobj/references.h"
#include "pyobj/static_types.h"
#include "pyobj/strings.h"

namespace heapcore {
namespace {

constexpr int kMaxBaseDepth = 64;
constexpr std::uint64_t kMaxSlots = 1 << 12;
constexpr std::uint32_t kWordBytes = 8;
constexpr std::uint32_t kStgInfoAlignment = 16;  // of what ctypes keeps behind a heap type
constexpr std::int32_t kMemberIsObject = 16;     // Py_T_OBJECT_EX; once T_OBJECT_EX

struct ReferenceRow {
  StructId of;
  std::size_t field_at;  // of the Field in PyLayout
  RefKind kind;
  const char* edge;
  bool items = false;               // ob_size words from here on
  bool heap_only = false;           // visited if the type is a heap type, else owned
  bool PyTraits::*trait = nullptr;  // visited in versions that have it, else owned
};

constexpr ReferenceRow kRows[] = {
#define HC_REF(tag, field, edge) {StructId::k##tag, offsetof(PyLayout, tag.field), RefKind::kVisited, edge},
#define HC_REF_IN(tag, other, field, edge) {StructId::k##tag, offsetof(PyLayout, other.field), RefKind::kVisited, edge},
#define HC_REF_IF_HEAP(tag, field, edge) \
  {StructId::k##tag, offsetof(PyLayout, tag.field), RefKind::kVisited, edge, false, true},
#define HC_REF_IF(tag, field, edge, trait) \
  {StructId::k##tag, offsetof(PyLayout, tag.field), RefKind::kVisited, edge, false, false, &PyTraits::trait},
#define HC_OWNED(tag, field, edge) {StructId::k##tag, offsetof(PyLayout, tag.field), RefKind::kOwned, edge},
#define HC_OWNED_IN(tag, other, field, edge) {StructId::k##tag, offsetof(PyLayout, other.field), RefKind::kOwned, edge},
#define HC_BUFFER(tag, field, edge) {StructId::k##tag, offsetof(PyLayout, tag.field), RefKind::kBuffer, edge},
#define HC_WEAK(tag, field, edge) {StructId::k##tag, offsetof(PyLayout, tag.field), RefKind::kWeak, edge},
#define HC_ITEMS(tag, field) {StructId::k##tag, offsetof(PyLayout, tag.field), RefKind::kVisited, "", true},
#include "pyobj/kinds.def"
};

constexpr StructId kTypeUnvisited[] = {
#define HC_TYPE_UNVISITED(tag) StructId::k##tag,
#include "pyobj/kinds.def"
};

Field field_at(const PyLayout& layout, std::size_t offset) {
  Field field;
  std::memcpy(&field, reinterpret_cast<const std::byte*>(&layout) + offset, sizeof field);
  return field;
}

// The kinds whose references are not words of the struct.
ReferencePlan::Walk walk_of(Kind kind, const PyLayout& layout) {
  switch (kind) {
    case Kind::kList:
      return ReferencePlan::Walk::kList;
    case Kind::kTuple:
      return ReferencePlan::Walk::kTuple;
    case Kind::kDict:
    case Kind::kOrderedDict:
    case Kind::kDefaultDict:
    case Kind::kFrozenDict:
    case Kind::kStgDict:
      return layout.PyDictObject.ma_table.present() ? ReferencePlan::Walk::kOther : ReferencePlan::Walk::kDict;
    case Kind::kSet:
    case Kind::kFrozenSet:
      return ReferencePlan::Walk::kSet;
    case Kind::kStr:
    case Kind::kUnicode:
    case Kind::kByteArray:
    case Kind::kType:
    case Kind::kCode:
    case Kind::kFrame:
    case Kind::kGenerator:
    case Kind::kCoroutine:
    case Kind::kAsyncGenerator:
    case Kind::kModule:
    case Kind::kDeque:
    case Kind::kLruCache:
    case Kind::kArray:
    case Kind::kNdarray:
    case Kind::kMemoryView:
    case Kind::kBuiltinFunction:
    case Kind::kOther:
      return ReferencePlan::Walk::kOther;
    default:
      return ReferencePlan::Walk::kNone;
  }
}

// The flag that marks the subclasses of the builtin type of this kind; 0 if there is none.
std::uint64_t subclass_flag(Kind kind) {
  switch (kind) {
    case Kind::kInt:
    case Kind::kBool:
      return tp_flag::kLongSubclass;
    case Kind::kStr:
    case Kind::kUnicode:
      return tp_flag::kUnicodeSubclass;
    case Kind::kBytes:
      return tp_flag::kBytesSubclass;
    case Kind::kList:
      return tp_flag::kListSubclass;
    case Kind::kTuple:
      return tp_flag::kTupleSubclass;
    case Kind::kType:
      return tp_flag::kTypeSubclass;
    case Kind::kDict:
    case Kind::kOrderedDict:
    case Kind::kDefaultDict:
    case Kind::kStgDict:
      return tp_flag::kDictSubclass;
    default:
      return 0;
  }
}

}  // namespace

// Makes the plan of one type.
class PlanMaker {
 public:
  PlanMaker(Reader& reader, const PyRuntime& runtime, TypeTable& types)
      : reader_(reader), runtime_(runtime), traits_(runtime.traits), layout_(*traits_.layout), types_(types) {}

  ReferencePlan make(const TypeInfo& type) {
    plan_.kind = type.kind;
    plan_.struct_id = type.row != nullptr ? type.row->struct_id : StructId::kPyObject;
    plan_.walk = walk_of(type.kind, layout_);
    plan_.inner = type.has_gc() ? RefKind::kVisited : RefKind::kOwned;
    plan_.basicsize = static_cast<std::uint32_t>(type.basicsize);
    plan_.itemsize = static_cast<std::uint32_t>(type.itemsize);
    if (type.kind == Kind::kTuple) plan_.items_offset = layout_.PyTupleObject.ob_item.offset;
    add_chain(type);
    if (type.kind == Kind::kTuple) add_hidden_items(type);
    add_managed_dict(type);
    const bool leaves_it_out = type.kind_type == type.address && type.row != nullptr &&
                               std::ranges::count(kTypeUnvisited, type.row->struct_id) != 0;
    const bool visits_type =
        type.has_gc() && (made_by_class(type.address) || (traits_.c_instances_visit_type && !leaves_it_out));
    plan_.has_type = type.is_heap_type;
    plan_.type_kind = visits_type ? RefKind::kVisited : RefKind::kOwned;
    std::sort(plan_.pointers.begin(), plan_.pointers.end(),
              [](const auto& a, const auto& b) { return a.offset < b.offset; });
    return std::move(plan_);
  }

 private:
  // From the type itself to `object`: what each layer adds to the struct.
  void add_chain(const TypeInfo& type) {
    Addr at = type.address;
    bool only_classes = true;
    bool described = false;     // a struct that is described is so with what it has of its bases
    std::int64_t own_dict = 0;  // tp_dictoffset, if classes put the dict there and not a struct
    if (made_by_class(at)) own_dict = load<std::int64_t>(at, layout_.PyTypeObject.tp_dictoffset);
    for (int depth = 0; at != 0 && depth < kMaxBaseDepth; ++depth) {
      const Addr base = load<Addr>(at, layout_.PyTypeObject.tp_base);
      const TypeBrief brief = types_.classify(at);
      if (brief.id == kNoType) break;
      if (made_by_class(at)) {
        add_slots(at);
      } else {
        const TypeInfo& layer = types_.shared_info(brief.id);
        if (only_classes && load<std::int64_t>(at, layout_.PyTypeObject.tp_dictoffset) == own_dict) own_dict = 0;
        only_classes = false;
        if (is_described(layer, base)) {
          add_rows(layer);
          described = true;
        } else if (!described) {
          add_unknown(layer, base);
        }
      }
      at = base;
    }
    if (own_dict == 0 || (type.flags & tp_flag::kManagedDict & managed_flag()) != 0) return;
    if (own_dict > 0) {
      add(static_cast<std::uint32_t>(own_dict), plan_.inner, "__dict__");
    } else {
      plan_.dict_offset = static_cast<std::int32_t>(own_dict);
      plan_.has_more = true;
    }
  }

  std::uint64_t managed_flag() const { return traits_.pre_header == PreHeader::kNone ? 0 : ~std::uint64_t{0}; }

  // A structseq hides its last fields from those who ask for its length. To 3.10 tuple's own tp_traverse does not visit
  // those.
  void add_hidden_items(const TypeInfo& type) {
    const Addr dict = type_dict(reader_, runtime_, type.address);
    const auto shown = number_in(dict, "n_sequence_fields");
    const auto all = number_in(dict, "n_fields");
    if (!shown || !all || *all < *shown || *all > kMaxSlots) return;
    plan_.hidden_items = *all - *shown;
    const Addr base = load<Addr>(type.address, layout_.PyTypeObject.tp_base);
    if (load<Addr>(type.address, layout_.PyTypeObject.tp_traverse) ==
        load<Addr>(base, layout_.PyTypeObject.tp_traverse))
      plan_.hidden_kind = RefKind::kOwned;
    else
      plan_.hidden_kind = plan_.inner;
  }

  std::optional<std::uint32_t> number_in(Addr dict, std::string_view key) {
    const auto value = dict != 0 ? dict_get(reader_, traits_, dict, key) : std::nullopt;
    return value ? small_int(reader_, traits_, *value) : std::nullopt;
  }

  void add_managed_dict(const TypeInfo& type) {
    if ((type.flags & tp_flag::kManagedDict & managed_flag()) == 0) return;
    plan_.has_managed_dict = true;
    if (layout_.PyDictValues.embedded.present()) {
      plan_.values = ReferencePlan::Values::kInline;
    } else {
      plan_.values = traits_.pre_header == PreHeader::kManagedDict ? ReferencePlan::Values::kPointer
                                                                   : ReferencePlan::Values::kTaggedPointer;
    }
    const Addr keys_at = load<Addr>(type.address, layout_.PyHeapTypeObject.ht_cached_keys);
    const bool has_values =
        plan_.values != ReferencePlan::Values::kInline || (type.flags & tp_flag::kInlineValues) != 0;
    const auto keys = has_values ? read_dict_keys(reader_, traits_, keys_at) : std::nullopt;
    if (!keys) return;
    plan_.names = keys_at + keys->entries_offset + keys->key_offset;
    plan_.name_stride = static_cast<std::uint32_t>(keys->entry_bytes);
    plan_.value_count = static_cast<std::uint32_t>(std::min<std::uint64_t>(keys->nentries, 255));
  }

  // A class statement leaves tp_name pointing into the str (2.7: bytes) that is its __name__.
  bool made_by_class(Addr type) {
    if ((load<std::uint64_t>(type, layout_.PyTypeObject.tp_flags) & tp_flag::kHeapType) == 0) return false;
    const Addr tp_name = load<Addr>(type, layout_.PyTypeObject.tp_name);
    const Addr ht_name = load<Addr>(type, layout_.PyHeapTypeObject.ht_name);
    if (ht_name == 0) return false;
    if (layout_.PyASCIIObject.size_bytes == 0) return tp_name == ht_name + layout_.PyStringObject.ob_sval.offset;
    return tp_name == ht_name + layout_.PyASCIIObject.size_bytes ||
           tp_name == load<Addr>(ht_name, layout_.PyCompactUnicodeObject.utf8);
  }

  // kinds.def lists it, or it is the builtin type that has a walk.
  bool is_described(const TypeInfo& layer, Addr base) {
    if (layer.kind_type == layer.address) return true;
    const std::uint64_t flag = subclass_flag(layer.kind);
    return flag != 0 && (load<std::uint64_t>(base, layout_.PyTypeObject.tp_flags) & flag) == 0;
  }

  void add_rows(const TypeInfo& layer) {
    if (layer.row == nullptr) return;
    // 2.7's xrange holds numbers, and its BytesIO plain memory. Of ctypes' metatype the struct is that of its types'
    // dicts, where visit_type looks.
    const StructId struct_id = layer.row->struct_id;
    if (struct_id == StructId::krangeobject && !layout_.rangeobject.length.present()) return;
    if (struct_id == StructId::kStgDictObject && layer.kind == Kind::kType) return;
    const Addr bias =
        struct_id == StructId::kStgInfo ? align_up(layout_.PyHeapTypeObject.size_bytes, kStgInfoAlignment) : 0;
    for (const ReferenceRow& row : kRows) {
      if (row.of != layer.row->struct_id || layer.kind_type != layer.address) continue;
      const Field field = field_at(layout_, row.field_at);
      if (!field.present()) continue;
      if (row.items) {
        plan_.items_offset = field.offset;
        plan_.walk = ReferencePlan::Walk::kTuple;
        continue;
      }
      if (row.field_at == offsetof(PyLayout, bytesio.buf) && layout_.bytesio.buf_size.present()) {
        add(field.offset, RefKind::kBuffer, row.edge);
        continue;
      }
      // An array is as many references.
      for (std::uint32_t at = 0; at + kWordBytes <= field.width_bytes; at += kWordBytes) {
        const auto offset = static_cast<std::uint32_t>(bias + field.offset + at);
        if (offset + kWordBytes > layer.basicsize) break;
        const bool visited = row.kind == RefKind::kVisited && (!row.heap_only || layer.is_heap_type) &&
                             (row.trait == nullptr || traits_.*row.trait);
        add(offset, visited ? plan_.inner : row.kind == RefKind::kVisited ? RefKind::kOwned : row.kind, row.edge);
      }
    }
  }

  // A struct of an extension module: what it adds to its base's.
  void add_unknown(const TypeInfo& layer, Addr base) {
    const std::uint64_t base_bytes = load<std::uint64_t>(base, layout_.PyTypeObject.tp_basicsize);
    if (layer.basicsize <= base_bytes || base_bytes < layout_.PyObject.size_bytes) return;
    const auto offset_in = [&](const Field& field) {
      return static_cast<std::uint64_t>(load<std::int64_t>(layer.address, field));
    };
    const std::uint64_t dict = offset_in(layout_.PyTypeObject.tp_dictoffset);
    const std::uint64_t weaklist = offset_in(layout_.PyTypeObject.tp_weaklistoffset);
    std::uint64_t begin = align_up(base_bytes, kWordBytes);
    for (std::uint64_t at = begin; at + kWordBytes <= layer.basicsize; at += kWordBytes) {
      if (at != dict && at != weaklist) continue;
      add_words(begin, at);
      begin = at + kWordBytes;
      if (at == dict) add(static_cast<std::uint32_t>(at), plan_.inner, "__dict__");
    }
    add_words(begin, layer.basicsize);
  }

  void add_words(std::uint64_t begin, std::uint64_t end) {
    if (begin + kWordBytes > end) return;
    plan_.words.push_back({static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end)});
    plan_.has_more = true;
  }

  // The slots that a class declares: an array of PyMemberDef, ob_size long.
  void add_slots(Addr type) {
    const auto& member = layout_.PyMemberDef;
    const std::uint64_t count = load<std::uint64_t>(type, layout_.PyVarObject.ob_size);
    const Addr members = load<Addr>(type, layout_.PyTypeObject.tp_members);
    if (members == 0 || count > kMaxSlots) return;
    for (std::uint64_t i = 0; i < count; ++i) {
      const Addr at = members + i * member.size_bytes;
      const auto offset = load<std::uint64_t>(at, member.offset);
      if (load<std::int32_t>(at, member.type) != kMemberIsObject || offset < layout_.PyObject.size_bytes ||
          offset + kWordBytes > plan_.basicsize) {
        continue;
      }
      plan_.pointers.push_back(
          {static_cast<std::uint32_t>(offset), plan_.inner, What::kSlot, "", load<Addr>(at, member.name)});
    }
  }

  void add(std::uint32_t offset, RefKind kind, const char* edge) {
    if (offset + kWordBytes <= plan_.basicsize) plan_.pointers.push_back({offset, kind, What::kField, edge, 0});
  }

  template <typename T>
  T load(Addr object, const Field& field) {
    T value{};
    if (object != 0) reader_.try_load(object + field.offset, value);
    return value;
  }

  Reader& reader_;
  const PyRuntime& runtime_;
  const PyTraits& traits_;
  const PyLayout& layout_;
  TypeTable& types_;
  ReferencePlan plan_;
};

const ReferencePlan& ReferenceReader::make_plan(TypeId id) {
  if (id >= plans_.size()) plans_.resize(id + 1);
  const TypeInfo& info = types_.shared_info(id);
  plans_[id] = std::make_unique<ReferencePlan>(PlanMaker(elsewhere_, runtime_, types_).make(info));
  return *plans_[id];
}

}  // namespace heapcore
