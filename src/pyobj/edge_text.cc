#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "pyobj/references.h"
#include "pyobj/source_names.h"
#include "pyobj/strings.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kMaxKeyLength = 120;

bool is_identifier(const std::string& text) {
  const auto is_part = [](unsigned char c) { return c == '_' || c >= 0x80 || std::isalnum(c) != 0; };
  return !text.empty() && std::isdigit(static_cast<unsigned char>(text[0])) == 0 &&
         std::all_of(text.begin(), text.end(), is_part);
}

// 2.7 keeps that of a str in a field of its own, and interns no unicode.
bool is_interned(Reader& reader, const PyTraits& traits, Addr str) {
  const PyLayout& layout = *traits.layout;
  std::uint32_t state = 0;
  if (traits.str_rep == StrRep::kCompact)
    return reader.try_load(str + layout.PyASCIIObject.state.offset, state) && (state & 3) != 0;
  Addr type = 0;
  std::uint64_t flags = 0;
  return reader.try_load(str + layout.PyObject.ob_type.offset, type) &&
         reader.try_load(type + layout.PyTypeObject.tp_flags.offset, flags) && (flags & tp_flag::kBytesSubclass) != 0 &&
         reader.try_load(str + layout.PyStringObject.ob_sstate.offset, state) && state != 0;
}

std::string key_text(Reader& reader, const PyTraits& traits, Addr key, bool values) {
  if (const auto text = decode_str(reader, traits, key, kMaxKeyLength)) {
    if (values || is_source_name(reader, traits, key)) return fmt::format("'{}'", *text);
    return "<str>";
  }
  if (const auto number = small_int(reader, traits, key)) return fmt::format("{}", *number);
  return fmt::format("<key at {:#x}>", key);
}

std::string attribute_name(Reader& reader, const PyTraits& traits, Addr name_at) {
  Addr name = 0;
  if (reader.try_load(name_at, name)) {
    if (auto text = decode_str(reader, traits, name, kMaxKeyLength)) return *text;
  }
  return "?";
}

// The name of a local, cell or free variable by its place in the frame.
std::string local_name(Reader& reader, const PyTraits& traits, Addr code, std::uint64_t index) {
  const PyLayout& layout = *traits.layout;
  const auto& fields = layout.PyCodeObject;
  const Field* const kTables[] = {&fields.co_localsplusnames, &fields.co_varnames, &fields.co_cellvars,
                                  &fields.co_freevars};
  for (const Field* table : kTables) {
    Addr names = 0;
    std::uint64_t length = 0;
    if (!table->present() || !reader.try_load(code + table->offset, names) ||
        !reader.try_load(names + layout.PyVarObject.ob_size.offset, length)) {
      continue;
    }
    if (index < length) return attribute_name(reader, traits, names + layout.PyTupleObject.ob_item.offset + index * 8);
    index -= length;
  }
  return fmt::format("#{}", index);
}

}  // namespace

bool is_source_name(Reader& reader, const PyTraits& traits, Addr address) {
  if (!is_interned(reader, traits, address)) return false;
  const auto text = decode_str(reader, traits, address, kMaxKeyLength);
  return text && is_identifier(*text);
}

std::string edge_text(Reader& reader, const PyTraits& traits, const EdgeName& name, bool values) {
  switch (name.what) {
    case What::kField:
      return fmt::format(".{}", name.field);
    case What::kAttribute:
      return "." + attribute_name(reader, traits, name.a);
    case What::kSlot:
      return "." + reader.c_string(name.a, kMaxKeyLength).value_or("?");
    case What::kDictKey:
      return fmt::format("key {}", key_text(reader, traits, name.a, values));
    case What::kDictValue:
      return fmt::format("[{}]", key_text(reader, traits, name.a, values));
    case What::kItem:
      return fmt::format("{}[{}]", name.field, name.a);
    case What::kMember:
      return "member";
    case What::kLocal:
      return "local " + local_name(reader, traits, name.a, name.index());
    case What::kStack:
      return fmt::format("stack[{}]", name.index());
    case What::kWord:
      return fmt::format("word at +{}", name.a);
  }
  return "";
}

}  // namespace heapcore
