#include "analysis/address_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace heapcore {
namespace {

TEST(AddressIndex, FindsExactlyWhatItWasMadeOf) {
  std::mt19937_64 random(1);
  for (const std::size_t count : {0UL, 1UL, 2UL, 1000UL, 100000UL}) {
    std::vector<Addr> addresses;
    for (std::size_t i = 0; i < count; ++i) {
      // Dense, sparse, and at both ends of the address space.
      const Addr near = 0x7f0000000000 + random() % (count * 32);
      const Addr far = random();
      addresses.push_back((i % 7 == 0 ? far : near) & ~Addr{7});
    }
    if (count > 2) addresses.insert(addresses.end(), {0, ~Addr{7}});
    std::sort(addresses.begin(), addresses.end());
    addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
    const AddressIndex index(addresses);
    for (std::size_t i = 0; i < addresses.size(); ++i) {
      ASSERT_EQ(index.find(addresses[i]), i);
      ASSERT_EQ(index.find(addresses[i] + 1), AddressIndex::kNone);
      const Addr beside = addresses[i] + 8;
      const bool there = std::binary_search(addresses.begin(), addresses.end(), beside);
      ASSERT_EQ(index.find(beside) != AddressIndex::kNone, there);
    }
    for (int i = 0; i < 1000; ++i) {
      const Addr any = random() & ~Addr{7};
      const bool there = std::binary_search(addresses.begin(), addresses.end(), any);
      ASSERT_EQ(index.find(any) != AddressIndex::kNone, there);
    }
  }
}

}  // namespace
}  // namespace heapcore
