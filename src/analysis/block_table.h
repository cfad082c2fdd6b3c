// Every block that holds something, as columns: Python objects, wherever they lie, and the allocators' blocks in use
// that hold none (keys tables, item arrays, buffers, native data). What the graph's nodes are.
//
// Ids: the objects by ascending address, then the raw blocks by ascending address. They do not depend on the number of
// threads. 16 bytes a block, and the index's 24 KiB for each MiB in which blocks lie.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "analysis/address_index.h"
#include "pyobj/objects.h"
#include "support/addr.h"

namespace heapcore {

using BlockId = std::uint32_t;
inline constexpr BlockId kNoBlock = ~BlockId{0};

// What one thread found, in the order in which it did.
struct BlockColumns {
  std::vector<Addr> addresses;  // of the object; of a raw block's first byte for its user
  std::vector<TypeId> types;    // kNoType for a raw block; the highest bit says that the collector tracks the object
  std::vector<std::uint64_t> bytes;

  static constexpr TypeId kTrackedBit = TypeId{1} << 31;

  void add_object(Addr address, TypeId type, bool tracked, std::uint64_t block_bytes) {
    add(address, tracked ? type | kTrackedBit : type, block_bytes);
  }
  void add_raw(Addr address, std::uint64_t block_bytes) { add(address, kNoType, block_bytes); }

  // What seemed to be objects are none: (object, its block's first byte), sorted.
  void make_raw(const std::vector<std::pair<Addr, Addr>>& phantoms);

 private:
  void add(Addr address, TypeId type, std::uint64_t block_bytes) {
    addresses.push_back(address);
    types.push_back(type);
    bytes.push_back(block_bytes);
  }
};

class BlockTable {
 public:
  BlockTable() = default;

  // Of an address that was found twice, one stays.
  explicit BlockTable(std::vector<BlockColumns> found);

  std::uint32_t size() const { return static_cast<std::uint32_t>(addresses_.size()); }
  std::uint32_t objects() const { return objects_; }
  bool is_object(BlockId id) const { return id < objects_; }

  Addr address(BlockId id) const { return addresses_[id]; }
  // REQUIRES: is_object(id).
  TypeId type(BlockId id) const { return types_[id] & ~BlockColumns::kTrackedBit; }
  // On one of the collector's lists. REQUIRES: is_object(id).
  bool tracked(BlockId id) const { return (types_[id] & BlockColumns::kTrackedBit) != 0; }
  // What the allocator gave for it, its own header included; 0 for an object in static memory.
  std::uint64_t bytes(BlockId id) const { return bytes_[id] != kLarge ? bytes_[id] : large_.at(id); }

  // The object or raw block that begins exactly there.
  BlockId find_object(Addr address) const { return object_index_.find(address); }
  BlockId find(Addr address) const {
    const BlockId object = object_index_.find(address);
    return object != kNoBlock ? object : find_raw(address);
  }
  BlockId find_raw(Addr address) const {
    const std::uint32_t raw = raw_index_.find(address);
    return raw == AddressIndex::kNone ? kNoBlock : objects_ + raw;
  }

  // Where the block of an object ends, at the latest; nowhere if it is in static memory.
  Addr end_of(const ObjectView& object) const { return end_of(object, find_object(object.address)); }
  Addr end_of(const ObjectView& object, BlockId id) const {
    const std::uint64_t block_bytes = id == kNoBlock ? 0 : bytes(id);
    return block_bytes == 0 ? ~Addr{0} : object.address - object.type.header_bytes + block_bytes;
  }

 private:
  static constexpr std::uint32_t kLarge = ~std::uint32_t{0};

  std::uint32_t objects_ = 0;
  std::vector<Addr> addresses_;
  std::vector<TypeId> types_;         // of the objects
  std::vector<std::uint32_t> bytes_;  // kLarge: look in large_
  std::map<BlockId, std::uint64_t> large_;
  AddressIndex object_index_;
  AddressIndex raw_index_;
};

}  // namespace heapcore
