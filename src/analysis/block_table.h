// Every block that holds something, as columns: Python objects, wherever they lie, and the allocators' blocks in use
// that hold none (keys tables, item arrays, buffers, native data). What the graph's nodes are.
//
// Ids: the objects by ascending address, then the raw blocks by ascending address. They do not depend on the number of
// threads. 16 bytes a block, and the index's 48 KiB for each MiB in which blocks lie.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "analysis/address_index.h"
#include "pyobj/objects.h"
#include "support/addr.h"
#include "support/column.h"

namespace heapcore {

using BlockId = std::uint32_t;
inline constexpr BlockId kNoBlock = ~BlockId{0};

// What one thread found, in the order in which it did. 16 bytes a block, in parts that never move.
class BlockColumns {
 public:
  struct Found {
    Addr address;         // of the object; of a raw block's first byte for its user
    TypeId type;          // kNoType for a raw block; the highest bit says that the collector tracks the object
    std::uint32_t bytes;  // kLarge: look in large()
  };

  static constexpr TypeId kTrackedBit = TypeId{1} << 31;
  static constexpr std::uint32_t kLarge = ~std::uint32_t{0};

  void add_object(Addr address, TypeId type, bool tracked, std::uint64_t block_bytes) {
    add(address, tracked ? type | kTrackedBit : type, block_bytes);
  }
  void add_raw(Addr address, std::uint64_t block_bytes) { add(address, kNoType, block_bytes); }

  // What seemed to be objects are none: (object, its block's first byte), sorted.
  void make_raw(const std::vector<std::pair<Addr, Addr>>& phantoms);

  const std::vector<Column<Found>>& parts() const { return parts_; }
  // REQUIRES: `block` is one of these, as it was found.
  std::uint64_t bytes_of(const Found& block) const {
    if (block.bytes != kLarge) [[likely]]
      return block.bytes;
    const auto is_it = [&](const auto& entry) { return entry.first == block.address; };
    const auto entry = std::find_if(large_.begin(), large_.end(), is_it);
    return entry == large_.end() ? 0 : entry->second;
  }
  const std::vector<std::pair<Addr, std::uint64_t>>& large() const { return large_; }

 private:
  static constexpr std::size_t kPartBlocks = (std::size_t{2} << 20) / sizeof(Found);

  void add(Addr address, TypeId type, std::uint64_t block_bytes) {
    if (parts_.empty() || parts_.back().size() == kPartBlocks) [[unlikely]]
      parts_.emplace_back().reserve(kPartBlocks);
    if (block_bytes >= kLarge) [[unlikely]] {
      large_.emplace_back(address, block_bytes);
      block_bytes = kLarge;
    }
    parts_.back().push_back({address, type, static_cast<std::uint32_t>(block_bytes)});
  }

  std::vector<Column<Found>> parts_;
  std::vector<std::pair<Addr, std::uint64_t>> large_;
};

class BlockTable {
 public:
  BlockTable() = default;

  // Of an address that was found twice, one stays.
  explicit BlockTable(std::vector<BlockColumns> found);

  std::uint32_t size() const { return static_cast<std::uint32_t>(addresses_.size()); }
  std::uint32_t objects() const { return objects_; }
  // Of all blocks.
  std::uint64_t total_bytes() const { return total_bytes_; }
  bool is_object(BlockId id) const { return id < objects_; }

  Addr address(BlockId id) const { return addresses_[id]; }
  // REQUIRES: is_object(id).
  TypeId type(BlockId id) const { return types_[id] & ~BlockColumns::kTrackedBit; }
  // On one of the collector's lists. REQUIRES: is_object(id).
  bool tracked(BlockId id) const { return (types_[id] & BlockColumns::kTrackedBit) != 0; }
  // What the allocator gave for it, its own header included; 0 for an object in static memory.
  std::uint64_t bytes(BlockId id) const {
    return bytes_[id] != BlockColumns::kLarge ? bytes_[id] : large_.at(address(id));
  }

  // The object or raw block that begins exactly there.
  BlockId find_object(Addr address) const { return index_.find_object(address); }
  BlockId find_raw(Addr address) const { return index_.find_raw(address); }
  BlockId find(Addr address) const { return index_.find(address); }

  // Where the block of an object ends, at the latest; nowhere if it is in static memory.
  Addr end_of(const ObjectView& object) const { return end_of(object, find_object(object.address)); }
  Addr end_of(const ObjectView& object, BlockId id) const {
    const std::uint64_t block_bytes = id == kNoBlock ? 0 : bytes(id);
    return block_bytes == 0 ? ~Addr{0} : object.address - object.type.header_bytes + block_bytes;
  }

 private:
  static_assert(kNoBlock == AddressIndex::kNone);

  std::uint32_t objects_ = 0;
  std::uint64_t total_bytes_ = 0;
  Column<Addr> addresses_;
  Column<TypeId> types_;         // of the objects
  Column<std::uint32_t> bytes_;  // BlockColumns::kLarge: look in large_
  std::map<Addr, std::uint64_t> large_;
  AddressIndex index_;
};

}  // namespace heapcore
