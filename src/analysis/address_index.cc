#include "analysis/address_index.h"

namespace heapcore {

AddressIndex::AddressIndex(std::span<const Addr> sorted) {
  std::vector<std::uint64_t> numbers;
  for (const Addr address : sorted) {
    if (numbers.empty() || numbers.back() != address >> kPageBits) numbers.push_back(address >> kPageBits);
  }
  if (numbers.empty()) return;
  const unsigned bits = static_cast<unsigned>(std::bit_width(numbers.size())) + 1;
  shift_ = 64 - bits;
  slots_.resize(std::size_t{1} << bits);
  pages_.resize(numbers.size());
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    std::size_t at = hash(numbers[i]);
    while (slots_[at].number != ~std::uint64_t{0}) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = {numbers[i], static_cast<std::uint32_t>(i)};
  }
  std::size_t page = 0;
  for (const Addr address : sorted) {
    while (numbers[page] != address >> kPageBits) ++page;
    const std::size_t bit = (address & (kPageBytes - 1)) >> 3;
    pages_[page].bits[bit / 64] |= std::uint64_t{1} << (bit % 64);
  }
  std::uint32_t rank = 0;
  for (Page& each : pages_) {
    for (std::size_t word = 0; word < kWords; ++word) {
      each.ranks[word] = rank;
      rank += static_cast<std::uint32_t>(std::popcount(each.bits[word]));
    }
  }
}

}  // namespace heapcore
