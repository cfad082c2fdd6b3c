// Is there something at this address, and which? Bitmaps with rank over sorted addresses: one load, mostly, and a
// popcount.
//
// Addresses are of two sorts, objects and raw blocks, and are numbered by ascending address: first the objects, then
// the raw blocks. One bit of each sort for each 8 bytes of every MiB that holds an address, and running counts for each
// 64 bits: 48 KiB a MiB.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "support/addr.h"
#include "support/column.h"

namespace heapcore {

class AddressIndex {
 public:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  AddressIndex() = default;

  // REQUIRES of each: ascending, none twice, all multiples of 8; fewer than 2^32 together.
  AddressIndex(std::span<const Addr> objects, std::span<const Addr> raws);

  // The number of the object, or of the raw block, that begins at `address`; kNone if none does.
  std::uint32_t find_object(Addr address) const {
    const Bits* bits = bits_at(address);
    return bits == nullptr ? kNone : number_of(bits->objects, bits->objects_before, address);
  }
  std::uint32_t find_raw(Addr address) const {
    const Bits* bits = bits_at(address);
    return bits == nullptr ? kNone : number_of(bits->raws, bits->raws_before, address);
  }
  // Of an object if there is one, else of a raw block.
  std::uint32_t find(Addr address) const {
    const Bits* bits = bits_at(address);
    if (bits == nullptr) return kNone;
    const std::uint32_t object = number_of(bits->objects, bits->objects_before, address);
    return object != kNone ? object : number_of(bits->raws, bits->raws_before, address);
  }

 private:
  static constexpr unsigned kPageBits = 20;
  static constexpr std::uint64_t kPageBytes = std::uint64_t{1} << kPageBits;
  static constexpr std::size_t kBits = kPageBytes / 8 / 64;

  struct Bits {
    std::uint64_t objects;
    std::uint32_t objects_before;
    std::uint32_t raws_before;
    std::uint64_t raws;
  };
  struct Page {
    Bits bits[kBits];
  };
  struct Slot {
    std::uint64_t number = ~std::uint64_t{0};  // address >> kPageBits
    std::uint32_t page = 0;
  };

  static std::uint32_t number_of(std::uint64_t bits, std::uint32_t before, Addr address) {
    const std::uint64_t mask = std::uint64_t{1} << (address >> 3) % 64;
    return (bits & mask) == 0 ? kNone : before + static_cast<std::uint32_t>(std::popcount(bits & (mask - 1)));
  }

  const Bits* bits_at(Addr address) const {
    if ((address & 7) != 0 || slots_.empty()) return nullptr;
    const std::uint64_t number = address >> kPageBits;
    for (std::size_t at = hash(number);; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].number == number) return &pages_[slots_[at].page].bits[(address & (kPageBytes - 1)) >> 9];
      if (slots_[at].number == ~std::uint64_t{0}) return nullptr;
    }
  }
  std::size_t hash(std::uint64_t number) const { return number * 0x9e3779b97f4a7c15ULL >> shift_; }

  static void fill(Page& page, std::uint64_t number, std::span<const Addr> objects, std::span<const Addr> raws);

  std::vector<Slot> slots_;  // open addressing, at most half full
  unsigned shift_ = 63;      // slots_.size() is 2^(64 - shift_)
  Column<Page> pages_;
};

}  // namespace heapcore
