#include "pyobj/strings.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "pyobj/literals.h"

namespace heapcore {
namespace {

// Far more than the names of any class or module; a damaged table may claim any number.
constexpr std::uint64_t kMaxEntriesSearched = 1 << 20;

std::uint32_t code_point(std::span<const std::byte> bytes, std::uint64_t index, unsigned kind) {
  std::uint32_t c = 0;
  std::memcpy(&c, bytes.data() + index * kind, kind);
  return c;
}

// Objects by what their type's flags say.
bool has_type_flag(Reader& reader, const PyLayout& layout, Addr address, std::uint64_t flag) {
  Addr type = 0;
  std::uint64_t flags = 0;
  return reader.try_load(address + layout.PyObject.ob_type.offset, type) &&
         reader.try_load(type + layout.PyTypeObject.tp_flags.offset, flags) && (flags & flag) != 0;
}

std::optional<std::string> decode_characters(Reader& reader, Addr data, std::uint64_t length, unsigned kind) {
  if (length == 0) return std::string();
  const std::span<const std::byte> bytes = reader.span(data, length * kind);
  if (bytes.empty()) return std::nullopt;
  std::string text;
  text.reserve(length);
  for (std::uint64_t i = 0; i < length; ++i) append_utf8(text, code_point(bytes, i, kind));
  return text;
}

// 2.7: str, whose bytes lie behind it, or unicode, which points to its characters.
std::optional<std::string> decode_either_str(Reader& reader, const PyTraits& traits, Addr address,
                                             std::uint64_t max_length) {
  const PyLayout& layout = *traits.layout;
  std::uint64_t length = 0;
  if (has_type_flag(reader, layout, address, tp_flag::kUnicodeSubclass)) {
    Addr data = 0;
    if (!reader.try_load(address + layout.PyUnicodeObject.length.offset, length) || length > max_length ||
        !reader.try_load(address + layout.PyUnicodeObject.str.offset, data)) {
      return std::nullopt;
    }
    return decode_characters(reader, data, length, static_cast<unsigned>(traits.unicode_unit_bytes));
  }
  if (!has_type_flag(reader, layout, address, tp_flag::kBytesSubclass) ||
      !reader.try_load(address + layout.PyVarObject.ob_size.offset, length) || length > max_length) {
    return std::nullopt;
  }
  if (length == 0) return std::string();
  const std::span<const std::byte> bytes = reader.span(address + layout.PyStringObject.ob_sval.offset, length);
  if (bytes.empty()) return std::nullopt;
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace

StrState unpack_str_state(const PyTraits& traits, std::uint32_t word) {
  word >>= traits.str_interned_bits;
  return {word & 7, (word >> 3 & 1) != 0, (word >> 4 & 1) != 0};
}

std::uint32_t pre_header_bytes(const PyTraits& traits, std::uint64_t tp_flags) {
  switch (traits.pre_header) {
    case PreHeader::kNone:
      return 0;
    case PreHeader::kManagedDict:
      return (tp_flags & tp_flag::kManagedDict) != 0 ? 16 : 0;
    case PreHeader::kManagedDictOrWeakref:
      return (tp_flags & (tp_flag::kManagedDict | tp_flag::kManagedWeakref)) != 0 ? 16 : 0;
  }
  return 0;
}

StrData read_str(Reader& reader, const PyTraits& traits, Addr address) {
  const PyLayout& layout = *traits.layout;
  const Field& wide = layout.PyASCIIObject.wstr;
  StrData data;
  std::uint32_t word = 0;
  if (!reader.try_load(address + layout.PyASCIIObject.length.offset, data.length) ||
      !reader.try_load(address + layout.PyASCIIObject.state.offset, word)) {
    return data;
  }
  const StrState state = unpack_str_state(traits, word);
  data.unit_bytes = state.kind;
  data.address = address + (state.ascii ? layout.PyASCIIObject.size_bytes : layout.PyCompactUnicodeObject.size_bytes);
  if (!state.compact && !reader.try_load(address + layout.PyUnicodeObject.data.offset, data.address)) return data;
  if (state.kind == 0 && wide.present()) {
    data.unit_bytes = 4;
    if (!reader.try_load(address + wide.offset, data.address) ||
        !reader.try_load(address + layout.PyCompactUnicodeObject.wstr_length.offset, data.length)) {
      return data;
    }
  }
  const bool known = data.unit_bytes == 1 || data.unit_bytes == 2 || data.unit_bytes == 4;
  data.sound = known && data.length < std::uint64_t{1} << 48;
  return data;
}

std::optional<std::string> decode_str(Reader& reader, const PyTraits& traits, Addr address, std::uint64_t max_length) {
  if (traits.str_rep == StrRep::kTwoTypes) return decode_either_str(reader, traits, address, max_length);
  const PyLayout& layout = *traits.layout;
  if (!has_type_flag(reader, layout, address, tp_flag::kUnicodeSubclass)) return std::nullopt;
  std::uint64_t length = 0;
  std::uint32_t word = 0;
  if (!reader.try_load(address + layout.PyASCIIObject.length.offset, length) || length > max_length ||
      !reader.try_load(address + layout.PyASCIIObject.state.offset, word)) {
    return std::nullopt;
  }
  const StrState state = unpack_str_state(traits, word);
  if (state.kind != 1 && state.kind != 2 && state.kind != 4) return std::nullopt;
  Addr data = address + (state.ascii ? layout.PyASCIIObject.size_bytes : layout.PyCompactUnicodeObject.size_bytes);
  if (!state.compact && !reader.try_load(address + layout.PyUnicodeObject.data.offset, data)) return std::nullopt;
  return decode_characters(reader, data, length, state.kind);
}

std::optional<std::uint32_t> small_int(Reader& reader, const PyTraits& traits, Addr address) {
  const PyLayout& layout = *traits.layout;
  std::uint64_t size = 0;
  std::uint32_t digit = 0;
  if (traits.number_home == NumberHome::kNumberBlocks &&
      has_type_flag(reader, layout, address, tp_flag::kIntSubclass)) {
    std::uint64_t value = 0;
    const bool small = reader.try_load(address + layout.PyIntObject.ob_ival.offset, value) && value < 1 << 30;
    return small ? std::optional(static_cast<std::uint32_t>(value)) : std::nullopt;
  }
  if (!has_type_flag(reader, layout, address, tp_flag::kLongSubclass)) return std::nullopt;
  const bool tagged = traits.long_rep == LongRep::kLvTag;
  if (!reader.try_load(address + (tagged ? layout.PyLongObject.lv_tag.offset : layout.PyVarObject.ob_size.offset),
                       size)) {
    return std::nullopt;
  }
  const std::uint64_t digits = tagged ? size >> 3 : size;
  if (digits == 0) return 0;
  if (digits != 1 || (tagged && (size & 3) == 2) ||
      !reader.try_load(address + layout.PyLongObject.ob_digit.offset, digit)) {
    return std::nullopt;
  }
  return digit;
}

std::optional<DictKeys> read_dict_keys(Reader& reader, const PyTraits& traits, Addr address) {
  const auto& fields = traits.layout->PyDictKeysObject;
  const std::span<const std::byte> bytes = reader.span(address, fields.size_bytes);
  if (bytes.empty()) return std::nullopt;
  DictKeys keys;
  std::memcpy(&keys.refcnt, bytes.data() + fields.dk_refcnt.offset, 8);
  std::memcpy(&keys.usable, bytes.data() + fields.dk_usable.offset, 8);
  std::memcpy(&keys.nentries, bytes.data() + fields.dk_nentries.offset, 8);
  if (fields.dk_size.present()) {
    // To 3.10: all entries are general; an index is as wide as the table's size asks for.
    std::uint64_t size = 0;
    std::memcpy(&size, bytes.data() + fields.dk_size.offset, 8);
    if (!std::has_single_bit(size) || size > std::uint64_t{1} << 48) return std::nullopt;
    const std::uint64_t index_bytes = size <= 0xff ? 1 : size <= 0xffff ? 2 : size <= 0xffffffff ? 4 : 8;
    keys.slots = size;
    keys.entry_bytes = 24;
    keys.key_offset = 8;
    keys.entries_offset = fields.dk_indices.offset + size * index_bytes;
    keys.capacity = size * 2 / 3;
  } else {
    const auto byte_at = [&](const Field& field) { return std::to_integer<unsigned>(bytes[field.offset]); };
    const unsigned log2_size = byte_at(fields.dk_log2_size);
    const unsigned log2_index_bytes = byte_at(fields.dk_log2_index_bytes);
    const unsigned kind = byte_at(fields.dk_kind);
    // dk_kind: 0 general {hash, key, value}, 1 unicode and 2 split {key, value} (Include/internal/pycore_dict.h, 3.11).
    // An index has 1, 2, 4 or 8 bytes.
    if (log2_size > 48 || log2_index_bytes > log2_size + 3 || log2_index_bytes < log2_size || kind > 2)
      return std::nullopt;
    keys.slots = std::uint64_t{1} << log2_size;
    keys.entry_bytes = kind == 0 ? 24 : 16;
    keys.key_offset = kind == 0 ? 8 : 0;
    keys.entries_offset = fields.dk_indices.offset + (std::uint64_t{1} << log2_index_bytes);
    keys.capacity = (std::uint64_t{1} << log2_size) * 2 / 3;  // USABLE_FRACTION
  }
  keys.value_offset = keys.key_offset + 8;
  keys.size_bytes = keys.entries_offset + keys.capacity * keys.entry_bytes;
  if (keys.nentries > keys.capacity || keys.usable > keys.capacity) return std::nullopt;
  return keys;
}

namespace {

// 2.7: a table of {hash, key, value}, wherever it lies.
template <typename Visit>
void any_table_item(Reader& reader, const PyTraits& traits, Addr address, Visit&& visit) {
  const PyLayout& layout = *traits.layout;
  Addr table = 0;
  std::uint64_t mask = 0;
  if (!reader.try_load(address + layout.PyDictObject.ma_table.offset, table) ||
      !reader.try_load(address + layout.PyDictObject.ma_mask.offset, mask)) {
    return;
  }
  for (std::uint64_t i = 0; i <= std::min(mask, kMaxEntriesSearched); ++i) {
    const Addr entry = table + i * layout.PyDictEntry.size_bytes;
    Addr key = 0;
    Addr value = 0;
    if (!reader.try_load(entry + layout.PyDictEntry.me_key.offset, key) ||
        !reader.try_load(entry + layout.PyDictEntry.me_value.offset, value)) {
      return;
    }
    if (key != 0 && value != 0 && visit(key, value)) return;
  }
}

// Calls visit(key, value) for each item, until it says true.
template <typename Visit>
void any_item(Reader& reader, const PyTraits& traits, Addr address, Visit&& visit) {
  const auto& fields = traits.layout->PyDictObject;
  if (fields.ma_table.present()) {
    any_table_item(reader, traits, address, visit);
    return;
  }
  Addr keys_address = 0;
  Addr values = 0;
  if (!reader.try_load(address + fields.ma_keys.offset, keys_address) ||
      !reader.try_load(address + fields.ma_values.offset, values)) {
    return;
  }
  const std::optional<DictKeys> keys = read_dict_keys(reader, traits, keys_address);
  if (!keys) return;
  for (std::uint64_t i = 0; i < std::min(keys->nentries, kMaxEntriesSearched); ++i) {
    const Addr entry = keys_address + keys->entries_offset + i * keys->entry_bytes;
    Addr key = 0;
    Addr value = 0;
    if (!reader.try_load(entry + keys->key_offset, key)) return;
    if (key == 0) continue;
    const Addr value_at =
        values != 0 ? values + traits.layout->PyDictValues.values.offset + i * 8 : entry + keys->value_offset;
    if (!reader.try_load(value_at, value) || value == 0) continue;
    if (visit(key, value)) return;
  }
}

}  // namespace

std::optional<Addr> dict_get(Reader& reader, const PyTraits& traits, Addr address, std::string_view key) {
  std::optional<Addr> found;
  any_item(reader, traits, address, [&](Addr each, Addr value) {
    if (decode_str(reader, traits, each, key.size()) == key) found = value;
    return found.has_value();
  });
  return found;
}

std::vector<std::pair<Addr, Addr>> dict_items(Reader& reader, const PyTraits& traits, Addr address) {
  std::vector<std::pair<Addr, Addr>> items;
  any_item(reader, traits, address, [&](Addr key, Addr value) {
    items.emplace_back(key, value);
    return false;
  });
  return items;
}

}  // namespace heapcore
