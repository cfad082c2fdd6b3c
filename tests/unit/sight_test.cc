// What is at an address: blocks in use, free and never used, objects from any address inside them, static types.
#include "analysis/sight.h"

#include <gtest/gtest.h>

#include "py_builder.h"

namespace heapcore::testing {
namespace {

class Sights : public ::testing::Test {
 protected:
  Sights() : arena(python.arena(kFirstArena)), pool(python.pool(arena, 64)) {}

  Sight look(Addr address) {
    process = python.process();
    return Observer(process, {true, 20}).look(address);
  }
  Addr list() {
    const Addr block = python.block(pool);
    python.head(block + 16, python.list_type, 3);
    python.track(block, python.generation(0));
    return block + 16;
  }

  FakePython python;
  std::uint32_t arena;
  Addr pool;
  Process process;
};

TEST_F(Sights, AnyAddressOfABlockIsItsObjects) {
  const Addr at = list();
  for (const int offset : {-16, -1, 0, 8, 47}) {
    const Sight sight = look(at + static_cast<Addr>(offset));
    ASSERT_TRUE(sight.object.has_value()) << offset;
    EXPECT_EQ(sight.object->address, at);
    EXPECT_EQ(sight.object->type, "builtins.list");
    EXPECT_EQ(sight.object->kind, Kind::kList);
    EXPECT_EQ(sight.object->refcount, 3);
    EXPECT_TRUE(sight.object->tracked);
    EXPECT_FALSE(sight.object->immortal);
    EXPECT_EQ(sight.object->bytes, 56U);
    ASSERT_TRUE(sight.block.has_value());
    EXPECT_EQ(sight.block->address, at - 16);
    EXPECT_EQ(sight.block->block_bytes, 64U);
    EXPECT_EQ(sight.block->state, BlockState::kInUse);
    EXPECT_EQ(sight.block->pool, pool);
    EXPECT_EQ(sight.block->arena, kFirstArena);
  }
}

TEST_F(Sights, AFreeBlockHoldsNoObject) {
  const Addr at = list();
  const Addr other = list();
  python.free_block(pool, other - 16);
  python.put(other - 16 + 16, 1);  // as if a count and a type were left
  const Sight sight = look(other);
  EXPECT_FALSE(sight.object.has_value());
  EXPECT_EQ(sight.block->state, BlockState::kFree);
  EXPECT_TRUE(look(at).object.has_value());
}

TEST_F(Sights, HeadersAndWhatWasNeverUsed) {
  list();
  EXPECT_EQ(look(pool + 8).block->state, BlockState::kHeader);
  EXPECT_EQ(look(pool + 48 + 64 * 5).block->state, BlockState::kNeverUsed);
  EXPECT_EQ(look(kFirstArena + kArenaBytes - 8).block->state, BlockState::kNeverUsed);
  EXPECT_FALSE(look(pool + 8).object.has_value());
}

TEST_F(Sights, AStaticTypeFromInsideIt) {
  const Sight sight = look(python.dict_type + 24);
  ASSERT_TRUE(sight.object.has_value());
  EXPECT_EQ(sight.object->address, python.dict_type);
  EXPECT_EQ(sight.object->value.text, "<class 'dict'>");
  EXPECT_FALSE(sight.block.has_value());
  ASSERT_NE(sight.module, nullptr);
}

TEST_F(Sights, WhatIsNotMapped) {
  const Sight sight = look(0x10);
  EXPECT_EQ(sight.mapping, nullptr);
  EXPECT_FALSE(sight.object || sight.block || sight.chunk);
}

}  // namespace
}  // namespace heapcore::testing
