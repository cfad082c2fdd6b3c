// What holds items: sequences, sets, mappings, arrays, buffers. Part of ValueReader (values.h).
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "pyobj/literals.h"
#include "pyobj/ndarray.h"
#include "pyobj/strings.h"
#include "pyobj/values.h"

namespace heapcore {
namespace {

// Names that say of a dict that it is a module's or a class's: then its keys are identifiers.
constexpr const char* kNamespaceKeys[] = {"__name__", "__module__", "__builtins__"};

// One element of an array or a buffer, by its struct code (docs: the array and struct modules).
std::string element_text(char code, std::span<const std::byte> bytes) {
  const auto as = [&]<typename T>(T value) {
    if (bytes.size() != sizeof(T)) return std::string("?");
    std::memcpy(&value, bytes.data(), sizeof(T));
    return fmt::format("{}", value);
  };
  switch (code) {
    case 'b':
      return as(std::int8_t{});
    case 'B':
      return as(std::uint8_t{});
    case 'h':
      return as(std::int16_t{});
    case 'H':
      return as(std::uint16_t{});
    case 'i':
      return as(std::int32_t{});
    case 'I':
      return as(std::uint32_t{});
    case 'l':
    case 'q':
      return as(std::int64_t{});
    case 'L':
    case 'Q':
      return as(std::uint64_t{});
    case 'f': {
      float value = 0;
      if (bytes.size() != sizeof value) return "?";
      std::memcpy(&value, bytes.data(), sizeof value);
      return float_literal(double{value});
    }
    case 'd': {
      double value = 0;
      if (bytes.size() != sizeof value) return "?";
      std::memcpy(&value, bytes.data(), sizeof value);
      return float_literal(value);
    }
    default:
      return "?";
  }
}

}  // namespace

Items ValueReader::items_of(const Object& object) {
  switch (object.kind) {
    case Kind::kTuple:
      return containers_.tuple(object.address, options_.room ? options_.room(object.address) : ~std::uint64_t{0});
    case Kind::kList:
      return containers_.list(object.address);
    case Kind::kSet:
    case Kind::kFrozenSet:
      return containers_.set(object.address);
    case Kind::kDeque:
      return containers_.deque(object.address);
    case Kind::kOrderedDict:
      return containers_.ordered_dict(object.address);
    default:
      return containers_.dict(object.address);
  }
}

void ValueReader::append_items(std::string& out, const Object& object, const char* open, const char* close) {
  const Items found = items_of(object);
  if (!found.sound) damaged(object.address, fmt::format("a {} does not hold what it says", object.type->name));
  out += open;
  for (const Item& item : found.items) {
    if (&item != found.items.data()) out += ", ";
    if (full(out)) break;
    append(out, item.value);
  }
  if (found.items.size() < found.length) out += found.items.empty() ? "..." : ", ...";
  if (object.kind == Kind::kTuple && found.length == 1) out += ',';
  out += close;
}

// set() and frozenset() are written as 2.7 or 3 does.
void ValueReader::append_set(std::string& out, const Object& object) {
  const std::string name = short_name(*object.type);
  if (layout_.PyDictObject.ma_table.present()) {
    out += name;
    append_items(out, object, "([", "])");
  } else if (word(object.address, layout_.PySetObject.used) == 0) {
    out += name + "()";
  } else if (object.kind == Kind::kSet && object.address != 0 && object.type->address == object.type->kind_type) {
    append_items(out, object, "{", "}");
  } else {
    out += name;
    append_items(out, object, "({", "})");
  }
}

void ValueReader::append_deque(std::string& out, const Object& object) {
  out += short_name(*object.type);
  append_items(out, object, "([", "]");
  const std::int64_t maxlen = number(object.address, layout_.dequeobject.maxlen);
  if (maxlen >= 0) out += fmt::format(", maxlen={}", maxlen);
  out += ')';
}

void ValueReader::append_key(std::string& out, Addr key, bool is_name) {
  const std::string name = is_name && !options_.contents ? name_at(key) : "";
  if (name.empty()) {
    append(out, key);
  } else {
    out += fmt::format("'{}'", name);
  }
}

// Of an instance (its keys are shared with others), a module or a class.
bool ValueReader::keys_are_names(const Object& dict) {
  if (containers_.is_split(dict.address)) return true;
  return std::any_of(std::begin(kNamespaceKeys), std::end(kNamespaceKeys),
                     [&](const char* key) { return dict_get(reader_, traits_, dict.address, key).has_value(); });
}

// Keys, values, both as tuples (k, v), or as "k: v".
void ValueReader::append_entries(std::string& out, const Object& dict, const Items& found, Entries shown) {
  const bool names = keys_are_names(dict);
  for (const Item& item : found.items) {
    if (&item != found.items.data()) out += ", ";
    if (full(out)) break;
    if (shown == Entries::kPairs) out += '(';
    if (shown != Entries::kValues) append_key(out, item.key, names);
    if (shown == Entries::kPairs) out += ", ";
    if (shown == Entries::kMapping) out += ": ";
    if (shown != Entries::kKeys) append(out, item.value);
    if (shown == Entries::kPairs) out += ')';
  }
  if (found.items.size() < found.length) out += found.items.empty() ? "..." : ", ...";
}

void ValueReader::append_dict(std::string& out, const Object& object) {
  const Items found = items_of(object);
  if (!found.sound) damaged(object.address, "a dict does not hold what it says");
  const bool ordered = object.kind == Kind::kOrderedDict;
  const bool wrapped = ordered || object.kind == Kind::kDefaultDict || object.kind == Kind::kFrozenDict;
  if (wrapped) out += short_name(*object.type) + "(";
  if (object.kind == Kind::kDefaultDict) {
    append(out, word(object.address, layout_.defdictobject.default_factory));
    out += ", ";
  }
  const bool pairs = ordered && traits_.ordered_dict_shows_pairs;
  if (!ordered || found.length != 0) {
    out += pairs ? '[' : '{';
    append_entries(out, object, found, pairs ? Entries::kPairs : Entries::kMapping);
    out += pairs ? ']' : '}';
  }
  if (wrapped) out += ')';
}

// Of a view of keys, values or items.
Addr ValueReader::viewed_dict(Addr view) {
  const Field& dict = layout_._PyDictViewObject.dv_dict;
  return word(view, dict.present() ? dict : layout_.dictviewobject.dv_dict);
}

// dict_keys([1]), dict_values(['one']), dict_items([(1, 'one')]). Views of an OrderedDict are named odict_keys and so
// on.
void ValueReader::append_dict_view(std::string& out, const Object& object) {
  const Object dict = find(viewed_dict(object.address));
  if (!dict) {
    out += object.type->name + "(";
    append_missing(out, dict.address);
    out += ')';
    return;
  }
  const Items found = items_of(dict);
  if (!found.sound) damaged(dict.address, "a dict does not hold what it says");
  const std::string& name = object.type->name;
  const Entries shown = name.ends_with("_keys")     ? Entries::kKeys
                        : name.ends_with("_values") ? Entries::kValues
                                                    : Entries::kPairs;
  out += name + "([";
  append_entries(out, dict, found, shown);
  out += "])";
}

void ValueReader::describe_items(Value& value, const Object& object) {
  switch (object.kind) {
    case Kind::kTuple:
    case Kind::kList:
    case Kind::kSet:
    case Kind::kFrozenSet:
    case Kind::kDeque:
      break;
    case Kind::kDict:
    case Kind::kOrderedDict:
    case Kind::kDefaultDict:
    case Kind::kFrozenDict:
    case Kind::kStgDict:
      value.is_mapping = true;
      break;
    default:
      return;
  }
  const Items found = items_of(object);
  value.length = found.length;
  const bool names = value.is_mapping && keys_are_names(object);
  for (const Item& item : found.items) {
    ValuePart part{"", text(item.value), item.value, item.key};
    if (item.key != 0) append_key(part.name, item.key, names);
    value.items.push_back(std::move(part));
  }
}

void ValueReader::append_array(std::string& out, const Object& object) {
  const Addr descr = word(object.address, layout_.arrayobject.ob_descr);
  const auto code = static_cast<char>(word(descr, layout_.arraydescr.typecode));
  const std::uint64_t item_bytes = word(descr, layout_.arraydescr.itemsize);
  const std::uint64_t count = word(object.address, layout_.PyVarObject.ob_size);
  out += fmt::format("{}('{}'", short_name(*object.type), code >= ' ' && code < '\x7f' ? code : '?');
  const bool is_text = code == 'u' || code == 'w' || code == 'c';
  if (count != 0 && is_text) {
    out += ", ";
    append_withheld(out, "text", count, "character");
  } else if (count != 0) {
    const std::uint64_t shown = options_.limit == 0 ? count : std::min<std::uint64_t>(count, options_.limit);
    const auto wanted = checked_mul(shown, item_bytes);
    const auto bytes =
        reader_.span(word(object.address, layout_.arrayobject.ob_item), wanted.value_or(~std::uint64_t{0}));
    if (bytes.empty()) damaged(object.address, "the items of an array are not there");
    out += ", [";
    for (std::uint64_t i = 0; !bytes.empty() && i < shown && !full(out); ++i) {
      out += (i == 0 ? "" : ", ") + element_text(code, bytes.subspan(i * item_bytes, item_bytes));
    }
    out += shown < count || bytes.empty() ? ", ...]" : "]";
  }
  out += ')';
}

void ValueReader::describe_memoryview(Value& value, const Object& object) {
  const auto& fields = layout_.PyMemoryViewObject;
  const Addr owner = word(object.address, fields.view_obj);
  add_field(value, "length", std::to_string(word(object.address, fields.view_len)));
  add_field(value, "itemsize", std::to_string(word(object.address, fields.view_itemsize)));
  const std::string format = c_name_at(word(object.address, fields.view_format));
  if (!format.empty()) add_field(value, "format", format);
  add_field(value, "readonly", word(object.address, fields.view_readonly) != 0 ? "True" : "False");
  add_field(value, "buffer", fmt::format("{:#x}", word(object.address, fields.view_buf)));
  add_object(value, "object", owner);
}

void ValueReader::append_ndarray(std::string& out, const Object& object) {
  Value value;
  describe_ndarray(value, object);
  out += fmt::format("<{} shape {} dtype {} at {:#x}>", type_name(*object.type), value.fields[0].text,
                     value.fields[1].text, object.address);
}

void ValueReader::describe_ndarray(Value& value, const Object& object) {
  const NdArray array = read_ndarray(reader_, object.address);
  if (!array.sound) damaged(object.address, "an array's dimensions or dtype cannot be");
  const char* end = array.shape.size() == 1 ? ",)" : ")";
  add_field(value, "shape", fmt::format("({}{}", fmt::join(array.shape, ", "), end));
  add_field(value, "dtype", array.dtype, array.descr);
  add_field(value, "itemsize", std::to_string(array.item_bytes));
  add_field(value, "nbytes", std::to_string(array.data_bytes()));
  add_field(value, "strides", fmt::format("({}{}", fmt::join(array.strides, ", "), end));
  add_field(value, "data", fmt::format("{:#x}", array.data));
  add_field(value, "owns data", array.owns_data ? "True" : "False");
  add_object(value, "base", array.base);
}

}  // namespace heapcore
