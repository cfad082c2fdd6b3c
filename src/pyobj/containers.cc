#include "pyobj/containers.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "pyobj/strings.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kWordBytes = 8;
// Tables with more slots than these are damaged: they would not fit into any memory. A walk over one that says so ends
// where its memory does.
constexpr std::uint64_t kMaxSlots = std::uint64_t{1} << 32;
// An entry of a shared keys table can be no more than this, since a byte numbers it.
constexpr std::uint64_t kMaxOrdered = 256;
// What stands in a set's table for an element that was taken out.
constexpr std::int64_t kDummyHash = -1;
constexpr const char* kDummyOf2 = "<dummy key>";
// In a dict's indices: -1 where there never was an entry, -2 where one was taken out (DKIX_EMPTY, DKIX_DUMMY).
constexpr std::int64_t kDummyIndex = -2;

}  // namespace

std::uint64_t ContainerReader::word(Addr base, const Field& field) {
  std::uint64_t value = 0;
  if (!field.present()) return 0;
  if (field.width_bytes >= kWordBytes) {
    reader_.try_load(base + field.offset, value);
  } else {
    reader_.read(base + field.offset, {reinterpret_cast<std::byte*>(&value), field.width_bytes});
  }
  return value;
}

// `room`: for how many there is memory.
Items ContainerReader::pointers(Addr first, std::uint64_t count, std::uint64_t room) {
  Items found;
  found.length = count;
  found.sound = count <= room;
  for (std::uint64_t i = 0; i < std::min({count, room, most_}); ++i) {
    Item item;
    if (!reader_.try_load(first + i * kWordBytes, item.value)) {
      found.sound = false;
      break;
    }
    found.items.push_back(item);
  }
  return found;
}

Items ContainerReader::tuple(Addr address, std::uint64_t room_bytes) {
  const std::uint64_t offset = layout_.PyTupleObject.ob_item.offset;
  return pointers(address + offset, word(address, layout_.PyVarObject.ob_size),
                  room_bytes < offset ? 0 : (room_bytes - offset) / kWordBytes);
}

Items ContainerReader::list(Addr address) {
  return pointers(word(address, layout_.PyListObject.ob_item), word(address, layout_.PyVarObject.ob_size),
                  word(address, layout_.PyListObject.allocated));
}

Items ContainerReader::set(Addr address) {
  Items found;
  found.length = word(address, layout_.PySetObject.used);
  const std::uint64_t slots = word(address, layout_.PySetObject.mask) + 1;
  const Addr table = word(address, layout_.PySetObject.table);
  if (slots > kMaxSlots || found.length > slots) {
    found.sound = false;
    return found;
  }
  const bool of_2 = layout_.PyDictObject.ma_table.present();
  const std::uint64_t wanted = std::min(found.length, most_);
  for (std::uint64_t i = 0; i < slots && found.items.size() < wanted; ++i) {
    const Addr entry = table + i * layout_.setentry.size_bytes;
    Item item;
    std::int64_t hash = 0;
    if (!reader_.try_load(entry + layout_.setentry.key.offset, item.value) ||
        !reader_.try_load(entry + layout_.setentry.hash.offset, hash)) {
      break;
    }
    if (item.value == 0 || hash == kDummyHash) continue;
    if (of_2 && decode_str(reader_, traits_, item.value, 16) == kDummyOf2) continue;
    found.items.push_back(item);
  }
  found.sound = found.items.size() == wanted;
  return found;
}

Items ContainerReader::deque(Addr address) {
  const auto& fields = layout_.dequeobject;
  Items found;
  found.length = word(address, fields.len.present() ? fields.len : layout_.PyVarObject.ob_size);
  const std::uint64_t block_items = layout_.BLOCK.data.width_bytes / kWordBytes;
  const Addr first = word(address, fields.leftblock);
  Addr block = first;
  std::uint64_t index = word(address, fields.leftindex);
  const std::uint64_t wanted = std::min(found.length, most_);
  while (found.items.size() < wanted && index <= block_items) {
    if (index == block_items) {
      // Blocks that are linked both ways and do not lead back to the first are no circle.
      const Addr next = word(block, layout_.BLOCK.rightlink);
      if (next == first || word(next, layout_.BLOCK.leftlink) != block) break;
      block = next;
      index = 0;
    }
    Item item;
    if (!reader_.try_load(block + layout_.BLOCK.data.offset + index * kWordBytes, item.value)) break;
    found.items.push_back(item);
    ++index;
  }
  found.sound = found.items.size() == wanted;
  return found;
}

// 2.7: a table of {hash, key, value}, wherever it lies.
Items ContainerReader::entry_table(Addr address) {
  const auto& fields = layout_.PyDictObject;
  Items found;
  found.length = word(address, fields.ma_used);
  const Addr table = word(address, fields.ma_table);
  const std::uint64_t slots = word(address, fields.ma_mask) + 1;
  if (slots > kMaxSlots || found.length > slots) {
    found.sound = false;
    return found;
  }
  const std::uint64_t wanted = std::min(found.length, most_);
  for (std::uint64_t i = 0; i < slots && found.items.size() < wanted; ++i) {
    const Addr entry = table + i * layout_.PyDictEntry.size_bytes;
    Item item;
    if (!reader_.try_load(entry + layout_.PyDictEntry.me_key.offset, item.key) ||
        !reader_.try_load(entry + layout_.PyDictEntry.me_value.offset, item.value)) {
      break;
    }
    if (item.key != 0 && item.value != 0) found.items.push_back(item);
  }
  found.sound = found.items.size() == wanted;
  return found;
}

Items ContainerReader::combined(Addr keys_address) {
  Items found;
  const std::optional<DictKeys> keys = read_dict_keys(reader_, traits_, keys_address);
  found.sound = keys.has_value();
  if (!keys) return found;
  for (std::uint64_t i = 0; i < keys->nentries && found.items.size() < most_; ++i) {
    const Addr entry = keys_address + keys->entries_offset + i * keys->entry_bytes;
    Item item;
    if (!reader_.try_load(entry + keys->key_offset, item.key) ||
        !reader_.try_load(entry + keys->value_offset, item.value)) {
      found.sound = false;
      break;
    }
    if (item.key != 0 && item.value != 0) found.items.push_back(item);
  }
  return found;
}

// Which entries have a value, in the order in which they got it. To 3.10 the values of a split dict lie in the keys'
// order; 3.11 and 3.12 number them in bytes before the values, later behind them (get_insertion_order,
// Objects/dictobject.c).
std::vector<std::uint64_t> ContainerReader::insertion_order(Addr values, std::uint64_t entries) {
  const auto& fields = layout_.PyDictValues;
  std::vector<std::uint64_t> order;
  if (!fields.values.present()) {
    for (std::uint64_t i = 0; i < entries; ++i) order.push_back(i);
    return order;
  }
  std::uint8_t size = 0;
  const bool behind = fields.size.present();
  const Addr size_at = behind ? values + fields.size.offset : values - 2;
  if (!reader_.try_load(size_at, size)) return order;
  const Addr first = behind ? values + fields.values.offset + word(values, fields.capacity) * kWordBytes : values - 3;
  for (std::uint64_t i = 0; i < size; ++i) {
    std::uint8_t index = 0;
    if (!reader_.try_load(behind ? first + i : first - i, index)) break;
    if (index < entries) order.push_back(index);
  }
  return order;
}

Items ContainerReader::inline_values(Addr values, Addr keys_address) {
  Items found;
  const std::optional<DictKeys> keys = read_dict_keys(reader_, traits_, keys_address);
  found.sound = keys.has_value();
  if (!keys) return found;
  for (const std::uint64_t i : insertion_order(values, std::min(keys->nentries, kMaxOrdered))) {
    Item item;
    if (!reader_.try_load(keys_address + keys->entries_offset + i * keys->entry_bytes + keys->key_offset, item.key) ||
        !reader_.try_load(values + layout_.PyDictValues.values.offset + i * kWordBytes, item.value)) {
      found.sound = false;
      break;
    }
    if (item.key == 0 || item.value == 0) continue;
    ++found.length;
    if (found.items.size() < most_) found.items.push_back(item);
  }
  return found;
}

bool ContainerReader::indices_are_sound(Addr keys_address) {
  const std::optional<DictKeys> keys = read_dict_keys(reader_, traits_, keys_address);
  if (!keys) return false;
  const std::uint64_t first = layout_.PyDictKeysObject.dk_indices.offset;
  const std::uint64_t width = (keys->entries_offset - first) / keys->slots;
  const std::span<const std::byte> indices = reader_.span(keys_address + first, keys->slots * width);
  std::uint64_t taken = 0;
  for (std::uint64_t at = 0; at + width <= indices.size(); at += width) {
    std::int64_t index = 0;
    std::memcpy(&index, indices.data() + at, width);
    const unsigned unused_bits = static_cast<unsigned>(64 - 8 * width);
    index = static_cast<std::int64_t>(static_cast<std::uint64_t>(index) << unused_bits) >> unused_bits;
    if (index < kDummyIndex || index >= static_cast<std::int64_t>(keys->nentries)) return false;
    if (index >= 0) ++taken;
  }
  return taken <= keys->nentries;
}

bool ContainerReader::is_split(Addr dict) {
  return word(dict, layout_.PyDictObject.ma_values) != 0;
}

Items ContainerReader::dict(Addr address) {
  if (layout_.PyDictObject.ma_table.present()) return entry_table(address);
  const Addr keys = word(address, layout_.PyDictObject.ma_keys);
  const Addr values = word(address, layout_.PyDictObject.ma_values);
  Items found = values == 0 ? combined(keys) : inline_values(values, keys);
  found.length = word(address, layout_.PyDictObject.ma_used);
  found.sound = found.sound && found.items.size() == std::min(found.length, most_);
  return found;
}

Items ContainerReader::ordered_dict(Addr address) {
  const auto& fields = layout_.PyODictObject;
  if (!fields.od_first.present()) return dict(address);
  std::unordered_map<Addr, Addr> values;
  const Items all = ContainerReader(reader_, traits_, kMaxSlots).dict(address);
  for (const Item& item : all.items) values.emplace(item.key, item.value);
  Items found;
  found.length = all.length;
  const std::uint64_t wanted = std::min<std::uint64_t>(all.items.size(), most_);
  Addr node = word(address, fields.od_first);
  Addr previous = 0;
  while (found.items.size() < wanted && node != 0 && word(node, layout_._odictnode.prev) == previous) {
    const auto value = values.find(word(node, layout_._odictnode.key));
    if (value == values.end()) break;
    found.items.push_back({value->first, value->second});
    previous = node;
    node = word(node, layout_._odictnode.next);
  }
  found.sound = all.sound && found.items.size() == wanted;
  return found;
}

}  // namespace heapcore
