#include "analysis/address_index.h"

#include <tbb/parallel_for.h>

#include <algorithm>

namespace heapcore {
namespace {

// The first of the sorted addresses that is not below a page. REQUIRES: page_bits > 0.
std::size_t first_in(std::span<const Addr> sorted, std::uint64_t page, unsigned page_bits) {
  const auto below = [&](Addr address, std::uint64_t number) { return address >> page_bits < number; };
  return static_cast<std::size_t>(std::lower_bound(sorted.begin(), sorted.end(), page, below) - sorted.begin());
}

void add_pages(std::span<const Addr> sorted, unsigned page_bits, std::vector<std::uint64_t>& pages) {
  for (std::size_t at = 0; at < sorted.size(); at = first_in(sorted, pages.back() + 1, page_bits))
    pages.push_back(sorted[at] >> page_bits);
}

}  // namespace

AddressIndex::AddressIndex(std::span<const Addr> objects, std::span<const Addr> raws) {
  std::vector<std::uint64_t> numbers;
  add_pages(objects, kPageBits, numbers);
  add_pages(raws, kPageBits, numbers);
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  if (numbers.empty()) return;
  const unsigned bits = static_cast<unsigned>(std::bit_width(numbers.size())) + 1;
  shift_ = 64 - bits;
  slots_.resize(std::size_t{1} << bits);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    std::size_t at = hash(numbers[i]);
    while (slots_[at].number != ~std::uint64_t{0}) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = {numbers[i], static_cast<std::uint32_t>(i)};
  }
  pages_ = Column<Page>(numbers.size());
  tbb::parallel_for(std::size_t{0}, numbers.size(), [&](std::size_t i) { fill(pages_[i], numbers[i], objects, raws); });
}

void AddressIndex::fill(Page& page, std::uint64_t number, std::span<const Addr> objects, std::span<const Addr> raws) {
  page = {};
  const auto set = [&](std::span<const Addr> sorted, std::uint64_t Bits::*bits) {
    const std::size_t first = first_in(sorted, number, kPageBits);
    for (std::size_t at = first; at < sorted.size() && sorted[at] >> kPageBits == number; ++at) {
      const std::size_t bit = (sorted[at] & (kPageBytes - 1)) >> 3;
      page.bits[bit / 64].*bits |= std::uint64_t{1} << bit % 64;
    }
    return static_cast<std::uint32_t>(first);
  };
  std::uint32_t objects_before = set(objects, &Bits::objects);
  std::uint32_t raws_before = static_cast<std::uint32_t>(objects.size()) + set(raws, &Bits::raws);
  for (Bits& each : page.bits) {
    each.objects_before = objects_before;
    each.raws_before = raws_before;
    objects_before += static_cast<std::uint32_t>(std::popcount(each.objects));
    raws_before += static_cast<std::uint32_t>(std::popcount(each.raws));
  }
}

}  // namespace heapcore
