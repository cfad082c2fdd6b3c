// Is there something at this address, and which? A bitmap with rank over sorted addresses: two loads and a popcount.
//
// One bit for each 8 bytes of every MiB that holds an address, and a running count for each 64 bits: 24 KiB a MiB.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "support/addr.h"

namespace heapcore {

class AddressIndex {
 public:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  AddressIndex() = default;

  // REQUIRES: ascending, none twice, all multiples of 8; fewer than 2^32.
  explicit AddressIndex(std::span<const Addr> sorted);

  // The position of `address` among the sorted ones; kNone if it is not one of them.
  std::uint32_t find(Addr address) const {
    if ((address & 7) != 0) return kNone;
    const Page* page = page_of(address >> kPageBits);
    if (page == nullptr) return kNone;
    const std::size_t bit = (address & (kPageBytes - 1)) >> 3;
    const std::uint64_t word = page->bits[bit / 64];
    const std::uint64_t mask = std::uint64_t{1} << (bit % 64);
    if ((word & mask) == 0) return kNone;
    return page->ranks[bit / 64] + static_cast<std::uint32_t>(std::popcount(word & (mask - 1)));
  }

 private:
  static constexpr unsigned kPageBits = 20;
  static constexpr std::uint64_t kPageBytes = std::uint64_t{1} << kPageBits;
  static constexpr std::size_t kWords = kPageBytes / 8 / 64;

  struct Page {
    std::uint64_t bits[kWords] = {};
    std::uint32_t ranks[kWords] = {};  // how many addresses lie before the word
  };
  struct Slot {
    std::uint64_t number = ~std::uint64_t{0};  // address >> kPageBits
    std::uint32_t page = 0;
  };

  const Page* page_of(std::uint64_t number) const {
    for (std::size_t at = hash(number);; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_.empty() || slots_[at].number == ~std::uint64_t{0}) return nullptr;
      if (slots_[at].number == number) return &pages_[slots_[at].page];
    }
  }
  std::size_t hash(std::uint64_t number) const { return number * 0x9e3779b97f4a7c15ULL >> shift_; }

  std::vector<Slot> slots_;  // open addressing, at most half full
  unsigned shift_ = 63;      // slots_.size() is 2^(64 - shift_)
  std::vector<Page> pages_;
};

}  // namespace heapcore
