#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "pyobj/references.h"
#include "pyobj/source_names.h"
#include "pyobj/strings.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kMaxKeyLength = 120;

constexpr const char* kWithheld = "<str>";

bool is_name(const std::string& text) {
  const auto is_part = [](unsigned char c) { return c == '_' || c == '.' || c >= 0x80 || std::isalnum(c) != 0; };
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

bool is_shown(Reader& reader, const PyTraits& traits, Addr key, const std::string& text, ShownKeys shown) {
  switch (shown) {
    case ShownKeys::kNone:
      return false;
    case ShownKeys::kInterned:
      return is_source_name(reader, traits, key);
    case ShownKeys::kNames:
      return is_name(text);
    case ShownKeys::kAll:
      return true;
  }
  return false;
}

std::string key_text(Reader& reader, const PyTraits& traits, Addr key, ShownKeys shown) {
  if (const auto text = decode_str(reader, traits, key, kMaxKeyLength))
    return is_shown(reader, traits, key, *text, shown) ? fmt::format("'{}'", *text) : kWithheld;
  if (const auto number = small_int(reader, traits, key)) return fmt::format("{}", *number);
  return fmt::format("<key at {:#x}>", key);
}

std::string attribute_name(Reader& reader, const PyTraits& traits, Addr name_at, ShownKeys shown) {
  Addr name = 0;
  if (reader.try_load(name_at, name)) {
    if (auto text = decode_str(reader, traits, name, kMaxKeyLength))
      return shown == ShownKeys::kAll || is_name(*text) ? *text : kWithheld;
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
    const Addr name_at = names + layout.PyTupleObject.ob_item.offset + index * 8;
    if (index < length) return attribute_name(reader, traits, name_at, ShownKeys::kAll);
    index -= length;
  }
  return fmt::format("#{}", index);
}

}  // namespace

bool is_source_name(Reader& reader, const PyTraits& traits, Addr address) {
  if (!is_interned(reader, traits, address)) return false;
  const auto text = decode_str(reader, traits, address, kMaxKeyLength);
  return text && text->find('.') == std::string::npos && is_name(*text);
}

std::string edge_text(Reader& reader, const PyTraits& traits, const EdgeName& name, ShownKeys shown) {
  switch (name.what) {
    case What::kField:
      return fmt::format(".{}", name.field);
    case What::kAttribute:
      return "." + attribute_name(reader, traits, name.a, shown);
    case What::kSlot:
      return "." + reader.c_string(name.a, kMaxKeyLength).value_or("?");
    case What::kDictKey:
      return fmt::format("key {}", key_text(reader, traits, name.a, shown));
    case What::kDictValue:
      return fmt::format("[{}]", key_text(reader, traits, name.a, shown));
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
