// The table of all blocks, whichever thread found which of them.
#include "analysis/block_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace heapcore {
namespace {

struct Known {
  bool is_object = false;
  TypeId type = kNoType;
  bool tracked = false;
  std::uint64_t bytes = 0;
};

TEST(BlockTable, IsSortedHoweverThreadsTookTurns) {
  std::mt19937_64 random(4);
  for (int round = 0; round < 300; ++round) {
    std::map<Addr, Known> known;
    std::vector<BlockColumns> found(1 + random() % 4);
    for (std::size_t i = random() % 40; i > 0; --i) {
      // A stretch of memory that one thread sweeps; stretches lie between one another's.
      BlockColumns& columns = found[random() % found.size()];
      Addr at = (random() % 50) << 10;
      for (std::size_t blocks = random() % 30; blocks > 0; --blocks) {
        at += 8 + random() % 8 * 8;
        if (known.contains(at)) continue;
        const Known block{random() % 2 == 0, static_cast<TypeId>(random() % 5), random() % 2 == 0,
                          random() % 9 == 0 ? std::uint64_t{1} << 33 : random() % 1000};
        known[at] = block;
        if (block.is_object) {
          columns.add_object(at, block.type, block.tracked, block.bytes);
        } else {
          columns.add_raw(at, block.bytes);
        }
      }
    }
    const BlockTable table(std::move(found));
    ASSERT_EQ(table.size(), known.size());
    BlockId object = 0;
    BlockId raw = table.objects();
    for (const auto& [address, block] : known) {
      const BlockId id = block.is_object ? object++ : raw++;
      ASSERT_EQ(table.address(id), address) << "round " << round;
      ASSERT_EQ(table.is_object(id), block.is_object);
      ASSERT_EQ(table.bytes(id), block.bytes);
      ASSERT_EQ(table.find(address), id);
      ASSERT_EQ(table.find_object(address), block.is_object ? id : kNoBlock);
      ASSERT_EQ(table.find_raw(address), block.is_object ? kNoBlock : id);
      if (!block.is_object) continue;
      ASSERT_EQ(table.type(id), block.type);
      ASSERT_EQ(table.tracked(id), block.tracked);
    }
  }
}

}  // namespace
}  // namespace heapcore
