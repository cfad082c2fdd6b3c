#include "pyobj/values.h"

#include <fmt/format.h>

#include <algorithm>

#include "pyobj/builtins_names.h"
#include "pyobj/strings.h"

namespace heapcore {
namespace {

// With a limit, what fits on a screen; without, what no sound object needs.
constexpr std::size_t kShortTextBytes = std::size_t{16} << 10;
constexpr std::size_t kLongTextBytes = std::size_t{16} << 20;
constexpr std::uint64_t kFewCharacters = 400;
constexpr std::uint64_t kManyCharacters = 1 << 24;
constexpr std::uint64_t kManyItems = 1 << 20;
constexpr std::size_t kDepth = 12;
constexpr std::uint64_t kNameCharacters = 4096;

}  // namespace

ValueReader::ValueReader(const Snapshot& snapshot, const PyRuntime& runtime, TypeTable& types,
                         const ValueOptions& options, Findings& findings)
    : runtime_(runtime),
      traits_(runtime.traits),
      layout_(*runtime.traits.layout),
      types_(types),
      options_(options),
      findings_(findings),
      objects_(snapshot, runtime.traits, types),
      reader_(snapshot.space),
      containers_(reader_, runtime.traits, options.limit == 0 ? kManyItems : options.limit),
      most_text_bytes_(options.limit == 0 ? kLongTextBytes : kShortTextBytes),
      most_characters_(options.limit == 0 ? kManyCharacters : kFewCharacters) {}

std::uint64_t ValueReader::word(Addr base, const Field& field) {
  std::uint64_t value = 0;
  if (!field.present()) return 0;
  const std::size_t width = std::min<std::size_t>(field.width_bytes, sizeof value);
  if (!reader_.read(base + field.offset, {reinterpret_cast<std::byte*>(&value), width})) return 0;
  return value;
}

// A signed field, of any width up to eight bytes.
std::int64_t ValueReader::number(Addr base, const Field& field) {
  const unsigned unused_bits = 64 - 8 * std::min(field.width_bytes, 8U);
  if (!field.present()) return 0;
  return static_cast<std::int64_t>(word(base, field) << unused_bits) >> unused_bits;
}

void ValueReader::damaged(Addr address, std::string_view what) {
  findings_.add({"object-damaged", Room::kPyobj, address, fmt::format("{}; the rest is shown", what)});
}

bool ValueReader::has_room(Addr object, Addr data, std::uint64_t count, unsigned unit_bytes) const {
  if (!options_.room) return true;
  const std::uint64_t room = options_.room(object);
  const std::uint64_t before = data - object;
  return before <= room && count <= (room - before) / unit_bytes;
}

ValueReader::Object ValueReader::find(Addr address) {
  Object object;
  object.address = address;
  if (address == 0 || !is_aligned(address, 8) || !objects_.at(address, object.view)) return object;
  object.type = &types_.info(object.view.type.id);
  object.kind = object.type->kind;
  return object;
}

std::string ValueReader::type_name(const TypeInfo& type) const {
  const bool builtin = type.module.empty() || is_builtins(type.module);
  return builtin ? type.name : type.module + "." + type.name;
}

// tp_name of a class: what stands behind the last dot.
std::string ValueReader::short_name(const TypeInfo& type) {
  return type.name.substr(type.name.rfind('.') + 1);
}

std::string ValueReader::name_at(Addr address) {
  return decode_str(reader_, traits_, address, kNameCharacters).value_or("");
}

std::string ValueReader::c_name_at(Addr address) {
  return address == 0 ? "" : reader_.c_string(address, kNameCharacters).value_or("");
}

void ValueReader::append_missing(std::string& out, Addr address) {
  if (address == 0) {
    out += "<null>";
  } else if (reader_.space().state(address) == ByteState::kNotDumped) {
    out += fmt::format("<not in the core: {:#x}>", address);
  } else {
    out += fmt::format("<no object at {:#x}>", address);
    // Said of what refers to it, which is the one that is damaged.
    damaged(active_.empty() ? address : active_.back(), fmt::format("it refers to {:#x}, where no object is", address));
  }
}

void ValueReader::append(std::string& out, Addr address) {
  if (full(out)) return;
  const Object object = find(address);
  if (!object) return append_missing(out, address);
  const bool again = std::find(active_.begin(), active_.end(), address) != active_.end();
  if (again || active_.size() >= kDepth) {
    switch (object.kind) {
      case Kind::kList:
      case Kind::kDeque:
        out += "[...]";
        return;
      case Kind::kTuple:
        out += "(...)";
        return;
      case Kind::kDict:
      case Kind::kDefaultDict:
        out += "{...}";
        return;
      default:
        if (again) {
          out += "...";
          return;
        }
        if (active_.size() < kDepth + 2) break;  // what has nothing inside it is shown all the same
        out += "...";
        return;
    }
  }
  active_.push_back(address);
  append_kind(out, object);
  active_.pop_back();
  if (full(out)) out += "...";
}

std::string ValueReader::text(Addr address) {
  std::string out;
  append(out, address);
  return out;
}

void ValueReader::append_kind(std::string& out, const Object& object) {
  switch (object.kind) {
    case Kind::kNone:
      out += "None";
      break;
    case Kind::kNotImplemented:
      out += "NotImplemented";
      break;
    case Kind::kEllipsis:
      out += "Ellipsis";
      break;
    case Kind::kSmallInt:
    case Kind::kInt:
    case Kind::kBool:
    case Kind::kFloat:
    case Kind::kComplex:
      append_int(out, object);
      break;
    case Kind::kStr:
      append_str(out, object);
      break;
    case Kind::kUnicode:
      append_unicode(out, object);
      break;
    case Kind::kBytes:
    case Kind::kByteArray:
      append_bytes(out, object, layout_.PyStringObject.ob_sval.present() && object.kind == Kind::kBytes ? "" : "b");
      break;
    case Kind::kTuple:
      append_items(out, object, "(", ")");
      break;
    case Kind::kList:
      append_items(out, object, "[", "]");
      break;
    case Kind::kSet:
    case Kind::kFrozenSet:
      append_set(out, object);
      break;
    case Kind::kDeque:
      append_deque(out, object);
      break;
    case Kind::kDict:
    case Kind::kOrderedDict:
    case Kind::kDefaultDict:
    case Kind::kFrozenDict:
    case Kind::kStgDict:
      append_dict(out, object);
      break;
    case Kind::kArray:
      append_array(out, object);
      break;
    case Kind::kNdarray:
      append_ndarray(out, object);
      break;
    case Kind::kRange:
      append_range(out, object);
      break;
    case Kind::kFunction:
    case Kind::kMethod:
    case Kind::kBuiltinFunction:
    case Kind::kGenerator:
    case Kind::kCoroutine:
    case Kind::kAsyncGenerator:
    case Kind::kFrame:
      append_callable(out, object);
      break;
    case Kind::kMethodDescriptor:
    case Kind::kMemberDescriptor:
    case Kind::kGetSetDescriptor:
    case Kind::kWrapperDescriptor:
    case Kind::kMethodWrapper:
      append_descriptor(out, object);
      break;
    case Kind::kCode:
      append_code(out, object.address);
      break;
    default:
      append_other(out, object);
      break;
  }
}

void ValueReader::add_field(Value& value, std::string_view name, std::string text, Addr address) {
  value.fields.push_back({std::string(name), std::move(text), address, 0});
}

// A field that is an object; none where the pointer is null.
void ValueReader::add_object(Value& value, std::string_view name, Addr address) {
  if (address != 0) add_field(value, name, text(address), address);
}

Value ValueReader::describe(Addr address) {
  Value value;
  const Object object = find(address);
  value.text = text(address);
  if (!object) return value;
  switch (object.kind) {
    case Kind::kFunction:
      describe_function(value, object);
      break;
    case Kind::kCode:
      describe_code(value, address);
      break;
    case Kind::kFrame:
      if (const auto frame = frame_at(object)) {
        add_frame(value, *frame);
        add_locals(value, *frame);
      }
      break;
    case Kind::kGenerator:
    case Kind::kCoroutine:
    case Kind::kAsyncGenerator:
      describe_generator(value, object);
      break;
    case Kind::kType:
      describe_type(value, address);
      break;
    case Kind::kUnknown:
      describe_unknown(value, object);
      break;
    case Kind::kMemoryView:
      describe_memoryview(value, object);
      break;
    case Kind::kNdarray:
      describe_ndarray(value, object);
      break;
    default:
      describe_items(value, object);
      describe_other(value, object);
      break;
  }
  describe_attributes(value, object);
  return value;
}

}  // namespace heapcore
