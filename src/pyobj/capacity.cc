#include "pyobj/capacity.h"

#include <bit>

#include "pyobj/strings.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kWordBytes = 8;
constexpr std::uint64_t kLeastSlots = 8;  // PyDict_MINSIZE, PySet_MINSIZE
// More of anything is damage.
constexpr std::uint64_t kMostEntries = std::uint64_t{1} << 40;

// Of a table of keys (3.x) with so many slots, of this one's kind: its header, its indices, its entries.
std::uint64_t keys_bytes(const DictKeys& like, std::uint64_t slots) {
  const auto index_bytes = [](std::uint64_t of) {
    return of <= 0xff ? of : of <= 0xffff ? 2 * of : of <= 0xffffffff ? 4 * of : 8 * of;
  };
  const std::uint64_t header = like.entries_offset - index_bytes(like.slots);
  return header + index_bytes(slots) + slots * 2 / 3 * like.entry_bytes;
}

std::uint64_t least_slots(std::uint64_t entries) {
  std::uint64_t slots = kLeastSlots;
  while (slots * 2 / 3 < entries) slots *= 2;
  return slots;
}

std::uint64_t less(std::uint64_t from, std::uint64_t what) {
  return from > what ? from - what : 0;
}

}  // namespace

std::optional<std::uint64_t> CapacityReader::word(Addr base, const Field& field) {
  std::uint64_t value = 0;
  if (!field.present() || !reader_.try_load(base + field.offset, value)) return std::nullopt;
  return value;
}

std::optional<Capacity> CapacityReader::list(Addr address) {
  const auto length = word(address, layout_.PyVarObject.ob_size);
  const auto allocated = word(address, layout_.PyListObject.allocated);
  if (!length || !allocated || *allocated > kMostEntries || *length > *allocated) return std::nullopt;
  return Capacity{*length, *allocated, (*allocated - *length) * kWordBytes};
}

std::optional<Capacity> CapacityReader::dict(Addr address) {
  const auto& fields = layout_.PyDictObject;
  if (fields.ma_table.present()) return dict_of_2(address);
  const auto used = word(address, fields.ma_used);
  const auto values = word(address, fields.ma_values);
  const auto keys_address = word(address, fields.ma_keys);
  if (!used || !keys_address) return std::nullopt;
  // So has a dict that never had an entry, to 3.10: of the static empty keys.
  if (values.value_or(0) != 0) return *used == 0 ? std::optional(Capacity()) : std::nullopt;
  const std::optional<DictKeys> keys = read_dict_keys(reader_, traits_, *keys_address);
  if (!keys || *used > keys->capacity) return std::nullopt;
  Capacity capacity = {*used, keys->capacity, 0};
  if (keys->refcnt != 1) return capacity;  // the static empty keys
  const std::uint64_t needed = *used == 0 ? 0 : keys_bytes(*keys, least_slots(*used));
  capacity.spare_bytes = less(keys->size_bytes, needed);
  return capacity;
}

std::optional<Capacity> CapacityReader::dict_of_2(Addr address) {
  const auto& fields = layout_.PyDictObject;
  const auto used = word(address, fields.ma_used);
  const auto mask = word(address, fields.ma_mask);
  const auto table = word(address, fields.ma_table);
  if (!used || !mask || !table || *mask >= kMostEntries || !std::has_single_bit(*mask + 1) || *used > *mask)
    return std::nullopt;
  const std::uint64_t slots = *mask + 1;
  Capacity capacity = {*used, slots * 2 / 3, 0};
  if (*table == address + fields.ma_smalltable.offset) return capacity;
  const std::uint64_t needed = least_slots(*used);
  capacity.spare_bytes = less(slots, needed == kLeastSlots ? 0 : needed) * layout_.PyDictEntry.size_bytes;
  return capacity;
}

std::optional<Capacity> CapacityReader::set(Addr address) {
  const auto& fields = layout_.PySetObject;
  const auto used = word(address, fields.used);
  const auto mask = word(address, fields.mask);
  const auto table = word(address, fields.table);
  if (!used || !mask || !table || *mask >= kMostEntries || !std::has_single_bit(*mask + 1) || *used > *mask)
    return std::nullopt;
  const std::uint64_t slots = *mask + 1;
  Capacity capacity = {*used, slots * 3 / 5, 0};
  if (*table == address + fields.smalltable.offset) return capacity;
  // A copy's table is made when the 8 slots that a set begins with are three fifths full: for twice the entries.
  std::uint64_t needed = kLeastSlots;
  if (*used * 5 >= (kLeastSlots - 1) * 3) {
    while (needed <= *used * 2) needed *= 2;
  }
  capacity.spare_bytes = less(slots, needed == kLeastSlots ? 0 : needed) * layout_.setentry.size_bytes;
  return capacity;
}

std::optional<Capacity> CapacityReader::byte_array(Addr address) {
  const auto length = word(address, layout_.PyVarObject.ob_size);
  const auto allocated = word(address, layout_.PyByteArrayObject.ob_alloc);
  if (!length || !allocated || *allocated > kMostEntries || *length > *allocated) return std::nullopt;
  // A NUL stands behind the bytes; where the buffer is a bytes object, that has it.
  const std::uint64_t needed = *length + (layout_.PyByteArrayObject.ob_bytes_object.present() ? 0 : 1);
  return Capacity{*length, *allocated, *length == 0 ? *allocated : less(*allocated, needed)};
}

}  // namespace heapcore
