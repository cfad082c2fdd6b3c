#include "pyobj/types.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "pyobj/refcounts.h"
#include "pyobj/strings.h"

namespace heapcore {
namespace {

constexpr int kMaxMetatypeDepth = 8;
constexpr int kMaxBaseDepth = 64;
// No type's fixed part is larger; a larger one is not a type, or a damaged one.
constexpr std::uint64_t kMaxBasicSize = 1 << 20;
constexpr std::size_t kMaxNameBytes = 4096;
// Of a type that says of none, or of none that can be read: no module is named so.
constexpr const char* kUnknownModule = "?";
constexpr std::size_t kCutNameBytes = 64;  // what is shown of a longer one

std::optional<SizeRule> size_rule_by_kind(Kind kind) {
  switch (kind) {
    case Kind::kType:
      return SizeRule::kType;
    case Kind::kInt:
      return SizeRule::kInt;
    case Kind::kStr:
      return SizeRule::kStr;
    case Kind::kUnicode:
      return SizeRule::kWideStr;
    case Kind::kList:
      return SizeRule::kList;
    case Kind::kDict:
      return SizeRule::kDict;
    default:
      return std::nullopt;
  }
}

bool has_sizeof(const PyTraits& traits, SizeRule rule) {
  switch (rule) {
    case SizeRule::kInt:  // of bool
      return traits.number_home == NumberHome::kAllocator;
    case SizeRule::kProduct:
    case SizeRule::kCombinations:
    case SizeRule::kPermutations:
      return traits.itertools_has_sizeof;
    default:
      return true;
  }
}

// "collections.deque" -> {"collections", "deque"}; a name without a dot belongs to builtins.
void split_tp_name(const std::string& tp_name, const char* builtins_module, TypeInfo& info) {
  const std::size_t dot = tp_name.rfind('.');
  info.module = dot == std::string::npos ? builtins_module : tp_name.substr(0, dot);
  info.name = dot == std::string::npos ? tp_name : tp_name.substr(dot + 1);
}

}  // namespace

TypeTable::TypeTable(const Snapshot& snapshot, const PyRuntime& runtime)
    : snapshot_(snapshot), runtime_(runtime), layout_(*runtime.traits.layout) {}

std::size_t TypeTable::unnamed() const {
  return static_cast<std::size_t>(
      std::count_if(infos_.begin(), infos_.end(), [](const TypeInfo& info) { return !info.named; }));
}

TypeBrief TypeTable::classify(Addr address) {
  TypeBrief brief;
  brief.address = address;
  Reader reader(snapshot_.space);
  // Most words asked about are no addresses at all; those need no lock.
  if (!is_aligned(address, 8) || !is_type(reader, address, 0)) return brief;
  const std::lock_guard lock(mutex_);
  const auto [entry, is_new] = ids_.try_emplace(address, static_cast<TypeId>(infos_.size()));
  if (is_new) infos_.push_back(read(reader, address));
  const TypeInfo& info = infos_[entry->second];
  brief.id = entry->second;
  brief.header_bytes = info.header_bytes;
  brief.basicsize = static_cast<std::uint32_t>(info.basicsize);
  brief.itemsize = static_cast<std::uint32_t>(info.itemsize);
  brief.size_rule = info.size_rule;
  brief.fits_exactly = info.size_rule == SizeRule::kFixed && !info.has_gc() && !info.is_heap_type;
  return brief;
}

// A type is what has a metatype for its type: `type` itself, or a ready subclass of it (TYPE_SUBCLASS) that is in turn
// a type. Asked of many words that point to ordinary objects; for those only ob_type is read, and what it leads to is
// in the cache.
bool TypeTable::is_type(Reader& reader, Addr address, int depth) {
  if (address == runtime_.type_type) return true;
  if (depth > kMaxMetatypeDepth || address < 4096) return false;
  Addr metatype = 0;
  if (!reader.try_load(address + layout_.PyObject.ob_type.offset, metatype) || metatype == address) return false;
  if (metatype != runtime_.type_type) {
    std::uint64_t metatype_flags = 0;
    const Addr flags_at = metatype + layout_.PyTypeObject.tp_flags.offset;
    if (!is_aligned(metatype, 8) || !reader.try_load(flags_at, metatype_flags) ||
        (metatype_flags & tp_flag::kTypeSubclass) == 0 || !is_type(reader, metatype, depth + 1)) {
      return false;
    }
  }
  const std::span<const std::byte> bytes = reader.span(address, layout_.PyTypeObject.size_bytes);
  if (bytes.empty()) return false;
  const auto word = [&](const Field& field) {
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data() + field.offset, sizeof value);
    return value;
  };
  const std::uint64_t basicsize = word(layout_.PyTypeObject.tp_basicsize);
  const bool ready = (word(layout_.PyTypeObject.tp_flags) & tp_flag::kReady) != 0 ||
                     (runtime_.traits.unready_types && snapshot_.module_at(address) != nullptr);
  return ready && basicsize >= layout_.PyObject.size_bytes && basicsize <= kMaxBasicSize &&
         word(layout_.PyTypeObject.tp_itemsize) <= kMaxBasicSize && is_referenced(runtime_.traits, bytes);
}

TypeInfo TypeTable::read(Reader& reader, Addr address) {
  const auto& fields = layout_.PyTypeObject;
  TypeInfo info;
  info.address = address;
  reader.try_load(address + fields.tp_flags.offset, info.flags);
  reader.try_load(address + fields.tp_basicsize.offset, info.basicsize);
  reader.try_load(address + fields.tp_itemsize.offset, info.itemsize);
  info.is_heap_type = (info.flags & tp_flag::kHeapType) != 0;
  if ((info.flags & tp_flag::kHaveGc) != 0) {
    info.header_bytes = runtime_.traits.gc_head_bytes() + pre_header_bytes(runtime_.traits, info.flags);
  }
  read_name(reader, info);
  identify(reader, info);
  return info;
}

std::optional<std::string> TypeTable::tp_name(Reader& reader, Addr address) {
  Addr name = 0;
  std::uint64_t flags = 0;
  if (reader.try_load(address + layout_.PyTypeObject.tp_name.offset, name)) {
    std::optional<std::string> text = reader.c_string(name, kMaxNameBytes);
    if (text && !text->empty()) return text;
  }
  reader.try_load(address + layout_.PyTypeObject.tp_flags.offset, flags);
  if ((flags & tp_flag::kHeapType) != 0) {
    // An extension module's, whose text is a constant of that module.
    const std::optional<std::string> qualname = heap_qualname(reader, address);
    const std::optional<std::string> module = heap_module(reader, address);
    return qualname && module ? std::optional(*module + "." + *qualname) : std::nullopt;
  }
  if (!static_names_) static_names_.emplace(snapshot_, runtime_);
  return static_names_->find(address);
}

std::optional<std::string> TypeTable::heap_qualname(Reader& reader, Addr type) {
  const auto& fields = layout_.PyHeapTypeObject;
  const Field& field = fields.ht_qualname.present() ? fields.ht_qualname : fields.ht_name;  // 2.7
  Addr name = 0;
  if (!reader.try_load(type + field.offset, name)) return std::nullopt;
  return decode_str(reader, runtime_.traits, name, kMaxNameBytes);
}

// A property or another descriptor may stand where a module's name is expected.
std::optional<std::string> TypeTable::heap_module(Reader& reader, Addr type) {
  Addr dict = 0;
  if (!reader.try_load(type + layout_.PyTypeObject.tp_dict.offset, dict)) return std::nullopt;
  const std::optional<Addr> module = dict_get(reader, runtime_.traits, dict, "__module__");
  return module ? decode_str(reader, runtime_.traits, *module, kMaxNameBytes) : std::nullopt;
}

// The beginning of a name that is too long to be read whole.
std::optional<std::string> TypeTable::cut_name(Reader& reader, Addr type) {
  Addr name = 0;
  if (!reader.try_load(type + layout_.PyTypeObject.tp_name.offset, name)) return std::nullopt;
  const std::span<const std::byte> bytes = reader.span(name, kMaxNameBytes + 1);
  if (bytes.empty() || std::find(bytes.begin(), bytes.end(), std::byte{0}) != bytes.end()) return std::nullopt;
  std::size_t length = kCutNameBytes;
  // Not within a character of UTF-8.
  while (length > 0 && (bytes[length] & std::byte{0xc0}) == std::byte{0x80}) --length;
  return fmt::format("{}... <type at {:#x}>", std::string_view(reinterpret_cast<const char*>(bytes.data()), length),
                     type);
}

void TypeTable::read_name(Reader& reader, TypeInfo& info) {
  const std::optional<std::string> text = tp_name(reader, info.address);
  if (text) {
    split_tp_name(*text, runtime_.traits.builtins_module, info);
    // A class's own __module__ says where it is from; without a dot, tp_name does not.
    if (info.is_heap_type && text->find('.') == std::string::npos) info.module = kUnknownModule;
  } else if (auto cut = cut_name(reader, info.address)) {
    info.name = std::move(*cut);
    info.module = kUnknownModule;
  } else {
    info.name = fmt::format("<type at {:#x}>", info.address);
    info.named = false;
  }
  if (!info.is_heap_type) return;
  // A heap type's own words come first: __qualname__, and __module__ in its dict.
  if (auto qualname = heap_qualname(reader, info.address)) {
    info.name = std::move(*qualname);
    info.named = true;
  }
  // Without it, tp_name's word is as good as any.
  if (auto module = heap_module(reader, info.address)) info.module = std::move(*module);
}

bool TypeTable::has_base(Reader& reader, Addr type, std::string_view name) {
  for (int depth = 0; type != 0 && depth < kMaxBaseDepth; ++depth) {
    if (tp_name(reader, type) == name) return true;
    if (!reader.try_load(type + layout_.PyTypeObject.tp_base.offset, type)) break;
  }
  return false;
}

// Flags tell the builtin types that have one; the rest are told by name, of which the nearest base's decides.
void TypeTable::identify(Reader& reader, TypeInfo& info) {
  const Kind by_flags = kind_by_flags(info);
  const bool is_var = info.itemsize != 0;
  info.kind = by_flags;
  info.size_rule = size_rule_by_kind(by_flags).value_or(is_var ? SizeRule::kVar : SizeRule::kFixed);
  if (by_flags == Kind::kBytes && runtime_.traits.str_rep == StrRep::kTwoTypes) info.size_rule = SizeRule::kByteStr;
  if (by_flags == Kind::kType && layout_.StgDictObject.size_bytes == 0 &&
      has_base(reader, info.address, "_ctypes.CType_Type")) {
    info.size_rule = SizeRule::kCtypesType;
  }
  Addr at = info.address;
  bool only_classes = true;  // so far, all were made by a class statement
  for (int depth = 0; at != 0 && depth < kMaxBaseDepth; ++depth) {
    std::uint64_t flags = 0;
    if (!reader.try_load(at + layout_.PyTypeObject.tp_flags.offset, flags)) break;
    const std::optional<std::string> name = tp_name(reader, at);
    // A Python class called "set" is a heap type with a bare name; extension modules' heap types have a dotted one.
    const bool own_name = (flags & tp_flag::kHeapType) == 0 || (name && name->find('.') != std::string::npos);
    const KindRow* row = name && own_name ? kind_row(*name) : nullptr;
    if (row != nullptr && row->kind == Kind::kSmallInt && layout_.PyIntObject.size_bytes == 0) row = nullptr;
    if (row != nullptr) {
      info.kind_type = at;
      info.row = row;
      if (row->kind == Kind::kInstance) {
        if (by_flags == Kind::kUnknown && only_classes) info.kind = Kind::kInstance;
      } else if (row->kind != Kind::kType) {
        info.kind = row->kind;
        const bool own_rule = row->size_rule != SizeRule::kFixed && has_sizeof(runtime_.traits, row->size_rule);
        if (own_rule || !is_var) info.size_rule = own_rule ? row->size_rule : SizeRule::kFixed;
      }
      break;
    }
    only_classes = only_classes && !own_name;
    if (!reader.try_load(at + layout_.PyTypeObject.tp_base.offset, at)) break;
  }
}

Kind TypeTable::kind_by_flags(const TypeInfo& info) const {
  static constexpr std::pair<std::uint64_t, Kind> kByFlag[] = {
      {tp_flag::kTypeSubclass, Kind::kType},   {tp_flag::kLongSubclass, Kind::kInt},
      {tp_flag::kUnicodeSubclass, Kind::kStr}, {tp_flag::kListSubclass, Kind::kList},
      {tp_flag::kTupleSubclass, Kind::kTuple}, {tp_flag::kBytesSubclass, Kind::kBytes},
      {tp_flag::kDictSubclass, Kind::kDict},   {tp_flag::kBaseExcSubclass, Kind::kException},
  };
  const bool two_types = runtime_.traits.str_rep == StrRep::kTwoTypes;
  for (const auto& [flag, kind] : kByFlag) {
    if ((info.flags & flag) == 0) continue;
    return kind == Kind::kStr && two_types ? Kind::kUnicode : kind;
  }
  return Kind::kUnknown;
}

}  // namespace heapcore
