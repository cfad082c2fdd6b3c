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
    // Some are objects, some raw blocks, some both.
    std::vector<Addr> objects;
    std::vector<Addr> raws;
    for (const Addr address : addresses) {
      const auto sorts = random() % 8;
      if (sorts != 0) objects.push_back(address);
      if (sorts < 3) raws.push_back(address);
    }
    const AddressIndex index(objects, raws);
    const auto check = [&](Addr address) {
      const auto number = [&](const std::vector<Addr>& sorted, std::size_t before) {
        const auto at = std::lower_bound(sorted.begin(), sorted.end(), address);
        return at == sorted.end() || *at != address ? AddressIndex::kNone
                                                    : static_cast<std::uint32_t>(before + (at - sorted.begin()));
      };
      const std::uint32_t object = number(objects, 0);
      const std::uint32_t raw = number(raws, objects.size());
      ASSERT_EQ(index.find_object(address), object);
      ASSERT_EQ(index.find_raw(address), raw);
      ASSERT_EQ(index.find(address), object != AddressIndex::kNone ? object : raw);
    };
    for (const Addr address : addresses) {
      check(address);
      check(address + 1);
      check(address + 8);
    }
    for (int i = 0; i < 1000; ++i) check(random() & ~Addr{7});
  }
}

}  // namespace
}  // namespace heapcore
