// Attributes of instances, layouts of types, and what lies in objects of unknown types. Part of ValueReader (values.h).
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "pyobj/strings.h"
#include "pyobj/values.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kWordBytes = 8;
constexpr int kMaxBaseDepth = 64;
constexpr int kMaxMembers = 1024;
constexpr std::uint64_t kMostScannedWords = 512;

// PyMemberDef.type of those members that are objects (Include/descrobject.h, structmember.h).
constexpr std::int64_t kObjectMember = 6;
constexpr std::int64_t kObjectOrErrorMember = 16;

}  // namespace

// Where an instance of a class with MANAGED_DICT has its attributes: returns the dict, or 0 and sets `values`.
//
//   3.11    the word before the collector's head is the dict, the one before that the values
//   3.12    one word for both; its low bit says that it is the values, less one
//   3.13+   the dict; while that is null, the values lie behind the object if the type says so
Addr ValueReader::managed_dict(const Object& object, Addr& values) {
  const Addr place = object.address - traits_.gc_head_bytes() - kWordBytes;
  const Addr dict = reader_.load<Addr>(place).value_or(0);
  if (traits_.pre_header == PreHeader::kManagedDict) {
    if (dict == 0) values = reader_.load<Addr>(place - kWordBytes).value_or(0);
    return dict;
  }
  if (!layout_.PyDictValues.embedded.present()) {
    if ((dict & 1) == 0) return dict;
    values = dict + 1;
    return 0;
  }
  if (dict == 0 && (object.type->flags & tp_flag::kInlineValues) != 0) {
    const Addr behind = object.address + object.type->basicsize;
    if (word(behind, layout_.PyDictValues.valid) != 0) values = behind;
  }
  return dict;
}

// _PyObject_ComputedDictPointer: an offset from the object's end, if the type says a negative one.
Addr ValueReader::computed_dict(const Object& object) {
  const std::int64_t offset = number(object.type->address, layout_.PyTypeObject.tp_dictoffset);
  if (offset == 0) return 0;
  if (offset > 0) return reader_.load<Addr>(object.address + static_cast<std::uint64_t>(offset)).value_or(0);
  std::uint64_t count = 0;
  if (object.kind == Kind::kInt && traits_.long_rep == LongRep::kLvTag) {
    count = word(object.address, layout_.PyLongObject.lv_tag) >> 3;
  } else {
    const std::int64_t size = number(object.address, layout_.PyVarObject.ob_size);
    count = size < 0 ? -static_cast<std::uint64_t>(size) : static_cast<std::uint64_t>(size);
  }
  const auto items = checked_mul(count, object.type->itemsize);
  if (!items) return 0;
  const Addr end = object.address + align_up(object.type->basicsize + *items, kWordBytes);
  return reader_.load<Addr>(end + static_cast<std::uint64_t>(offset)).value_or(0);
}

// The object members that a class's __slots__, or a C type, put into its instances: name and offset.
std::vector<std::pair<std::string, std::uint64_t>> ValueReader::slots_of(Addr type) {
  std::vector<std::pair<std::string, std::uint64_t>> slots;
  const auto& fields = layout_.PyMemberDef;
  for (int depth = 0; type != 0 && depth < kMaxBaseDepth; ++depth) {
    Addr member = word(type, layout_.PyTypeObject.tp_members);
    for (int i = 0; member != 0 && i < kMaxMembers; ++i, member += fields.size_bytes) {
      const std::string name = c_name_at(word(member, fields.name));
      if (name.empty()) break;
      const std::int64_t kind = number(member, fields.type);
      if (kind != kObjectMember && kind != kObjectOrErrorMember) continue;
      slots.emplace_back(name, word(member, fields.offset));
    }
    type = word(type, layout_.PyTypeObject.tp_base);
  }
  return slots;
}

void ValueReader::add_slots(Value& value, const Object& object) {
  // Those of C types are what the kind's own fields tell, but of unknown types, of which nothing else does.
  for (const auto& [name, offset] : slots_of(object.type->address)) {
    const bool of_class = offset >= word(object.type->kind_type, layout_.PyTypeObject.tp_basicsize);
    if (object.type->kind_type != 0 && !of_class) continue;
    if (offset > object.type->basicsize) continue;
    const Addr held = reader_.load<Addr>(object.address + offset).value_or(0);
    if (held != 0) value.attributes.push_back({name, text(held), held, 0});
  }
}

void ValueReader::add_attributes(Value& value, const Items& items) {
  for (const Item& item : items.items) {
    std::string name = name_at(item.key);
    if (name.empty()) name = text(item.key);
    value.attributes.push_back({std::move(name), text(item.value), item.value, item.key});
  }
}

void ValueReader::describe_attributes(Value& value, const Object& object) {
  if (object.kind == Kind::kType) {
    const Object dict = find(word(object.address, layout_.PyTypeObject.tp_dict));
    if (dict) add_attributes(value, containers_.dict(dict.address));
    return;
  }
  add_slots(value, object);
  Addr values = 0;
  Addr dict = 0;
  if (object.kind == Kind::kClassicInstance) {
    dict = word(object.address, layout_.PyInstanceObject.in_dict);
  } else if (object.kind == Kind::kClassicClass) {
    dict = word(object.address, layout_.PyClassObject.cl_dict);
  } else if (traits_.pre_header != PreHeader::kNone && (object.type->flags & tp_flag::kManagedDict) != 0) {
    dict = managed_dict(object, values);
  } else {
    dict = computed_dict(object);
  }
  Items found;
  if (values != 0) {
    found = containers_.inline_values(values, word(object.type->address, layout_.PyHeapTypeObject.ht_cached_keys));
  } else if (dict != 0) {
    const Object holder = find(dict);
    if (!holder) return damaged(object.address, "the __dict__ of an object is none");
    found = containers_.dict(dict);
  }
  if (!found.sound) damaged(object.address, "the attributes of an object cannot be read whole");
  add_attributes(value, found);
}

// What the instances of a type are made of.
void ValueReader::describe_type(Value& value, Addr type) {
  const TypeBrief brief = types_.classify(type);
  if (brief.id == kNoType) return;
  const TypeInfo info = types_.info(brief.id);
  add_field(value, "name", info.name);
  add_field(value, "module", info.module);
  const auto names_of = [&](const Items& types) {
    std::string names;
    for (const Item& item : types.items) {
      const TypeBrief each = types_.classify(item.value);
      if (each.id == kNoType) continue;
      names += (names.empty() ? "" : ", ") + short_name(types_.info(each.id));
    }
    return names;
  };
  if (const Object bases = find(word(type, layout_.PyTypeObject.tp_bases))) {
    add_field(value, "bases", names_of(containers_.tuple(bases.address)), bases.address);
  }
  if (const Object mro = find(word(type, layout_.PyTypeObject.tp_mro))) {
    add_field(value, "mro", names_of(containers_.tuple(mro.address)), mro.address);
  }
  add_field(value, "instance bytes", std::to_string(info.basicsize));
  if (info.itemsize != 0) add_field(value, "item bytes", std::to_string(info.itemsize));
  if (info.header_bytes != 0) add_field(value, "header bytes", std::to_string(info.header_bytes));
  const std::int64_t offset = number(type, layout_.PyTypeObject.tp_dictoffset);
  const bool managed = traits_.pre_header != PreHeader::kNone && (info.flags & tp_flag::kManagedDict) != 0;
  if (managed || offset != 0) add_field(value, "dict", managed ? "managed" : fmt::format("at offset {}", offset));
  std::string slots;
  for (const auto& [name, at] : slots_of(type)) slots += fmt::format("{}{} at {}", slots.empty() ? "" : ", ", name, at);
  if (!slots.empty()) add_field(value, "members", slots);
}

// Nothing is known of its struct: every word in it that is the address of an object.
void ValueReader::describe_unknown(Value& value, const Object& object) {
  const std::uint64_t words = std::min(object.type->basicsize / kWordBytes, kMostScannedWords);
  for (std::uint64_t i = layout_.PyObject.size_bytes / kWordBytes; i < words; ++i) {
    const Addr held = reader_.load<Addr>(object.address + i * kWordBytes).value_or(0);
    const Object found = find(held);
    if (!found) continue;
    const std::uint64_t refcnt = word(held, layout_.PyObject.ob_refcnt) & traits_.refcnt_mask;
    if (refcnt - 1 >= traits_.refcnt_bound) continue;
    value.pointers.push_back({fmt::format("+{}", i * kWordBytes), text(held), held, 0});
  }
}

}  // namespace heapcore
