// Which blocks hold an object and where it begins, on synthesised blocks.
#include "pyobj/objects.h"

#include <gtest/gtest.h>

#include "py_builder.h"

namespace heapcore::testing {
namespace {

using namespace tp_flag;  // NOLINT(google-build-using-namespace)

constexpr Addr kBlocks = 0x7f7000000000;

// A place for blocks of any size, and what recognise() says of them.
class Blocks {
 public:
  explicit Blocks(Addr base = kPieBase) : python(base) { python.add_memory(kBlocks, 1 << 16, ""); }

  Addr block(std::uint64_t bytes) {
    const Addr at = at_;
    at_ = align_up(at_ + bytes, 16);
    return at;
  }
  std::optional<ObjectView> recognise(Addr block, std::uint64_t bytes) {
    const Snapshot snapshot = python.snapshot();
    const PyRuntime runtime = python.runtime();
    TypeTable types(snapshot, runtime);
    ObjectReader reader(snapshot, runtime.traits, types);
    ObjectView object;
    if (!reader.recognise(block, reader.reader().span(block, bytes), object)) return std::nullopt;
    return object;
  }
  // A block of words, as an item array or a table is.
  std::optional<ObjectView> words(const std::vector<std::uint64_t>& values) {
    const Addr at = block(values.size() * 8);
    for (std::size_t i = 0; i < values.size(); ++i) python.put(at + 8 * i, values[i]);
    return recognise(at, values.size() * 8);
  }

  FakePython python;

 private:
  Addr at_ = kBlocks;
};

TEST(Objects, WithoutGc) {
  Blocks blocks;
  const Addr at = blocks.block(32);
  blocks.python.head(at, blocks.python.float_type, 3);
  const auto object = blocks.recognise(at, 32);
  ASSERT_TRUE(object);
  EXPECT_EQ(object->address, at);
  EXPECT_EQ(object->offset, 0U);
  EXPECT_EQ(object->type.address, blocks.python.float_type);
  EXPECT_FALSE(object->tracked);
}

TEST(Objects, BehindAGcHead) {
  Blocks blocks;
  const Addr at = blocks.block(64);
  blocks.python.head(at + 16, blocks.python.list_type);
  const auto untracked = blocks.recognise(at, 64);
  ASSERT_TRUE(untracked);
  EXPECT_EQ(untracked->address, at + 16);
  EXPECT_EQ(untracked->offset, 16U);
  EXPECT_FALSE(untracked->tracked);
  blocks.python.track(at, blocks.python.generation(1));
  const auto tracked = blocks.recognise(at, 64);
  ASSERT_TRUE(tracked);
  EXPECT_TRUE(tracked->tracked);
  EXPECT_EQ(tracked->gc_next, blocks.python.generation(1));
}

TEST(Objects, BehindAPreHeader) {
  Blocks blocks;
  const Addr at = blocks.block(64);
  blocks.python.put(at, 0x1230);      // values
  blocks.python.put(at + 8, 0x4560);  // dict
  blocks.python.head(at + 32, blocks.python.node_type);
  blocks.python.track(at + 16, blocks.python.generation(2));
  const auto object = blocks.recognise(at, 64);
  ASSERT_TRUE(object);
  EXPECT_EQ(object->address, at + 32);
  EXPECT_EQ(object->offset, 32U);
  EXPECT_TRUE(object->tracked);
}

TEST(Objects, TheTypesOwnPlaceOnly) {
  Blocks blocks;
  const auto at_offset = [&](std::uint64_t offset, Addr type) {
    const Addr at = blocks.block(128);
    blocks.python.head(at + offset, type);
    return blocks.recognise(at, 128).has_value();
  };
  for (const std::uint64_t offset : {0U, 8U, 16U, 24U, 32U, 40U, 48U}) {
    EXPECT_EQ(at_offset(offset, blocks.python.int_type), offset == 0);
    EXPECT_EQ(at_offset(offset, blocks.python.slotted_type), offset == 16);
    EXPECT_EQ(at_offset(offset, blocks.python.node_type), offset == 32);
  }
}

TEST(Objects, FlagsOfTheCollectorAreNoAddresses) {
  Blocks blocks;
  const Addr at = blocks.block(64);
  blocks.python.head(at + 16, blocks.python.list_type);
  // Untracked but finalized: _gc_prev keeps bit 0.
  blocks.python.put(at + 8, 1);
  const auto finalized = blocks.recognise(at, 64);
  ASSERT_TRUE(finalized);
  EXPECT_FALSE(finalized->tracked);
  // Inside a collection: bit 0 of _gc_next, bit 1 of _gc_prev.
  blocks.python.put(at, blocks.python.generation(0) | 1);
  blocks.python.put(at + 8, blocks.python.generation(0) | 3);
  const auto collecting = blocks.recognise(at, 64);
  ASSERT_TRUE(collecting);
  EXPECT_TRUE(collecting->tracked);
  EXPECT_EQ(collecting->gc_next, blocks.python.generation(0));
}

TEST(Objects, AGcHeadThatDoesNotAddUpIsRefused) {
  Blocks blocks;
  const Addr at = blocks.block(64);
  blocks.python.head(at + 16, blocks.python.list_type);
  const auto with = [&](std::uint64_t next, std::uint64_t prev) {
    blocks.python.put(at, next);
    blocks.python.put(at + 8, prev);
    return blocks.recognise(at, 64).has_value();
  };
  const Addr ring = blocks.python.generation(0);
  EXPECT_TRUE(with(ring, ring));
  EXPECT_FALSE(with(ring, 0));        // tracked, but nobody points to it
  EXPECT_FALSE(with(0, ring));        // the other way round
  EXPECT_TRUE(with(ring + 4, ring));  // a ring's head may lie at a multiple of 4 only (3.13.5)
}

TEST(Objects, RefcountsThatCannotBe) {
  Blocks blocks;
  const Addr at = blocks.block(32);
  const auto with = [&](std::uint64_t refcnt) {
    blocks.python.head(at, blocks.python.float_type, refcnt);
    return blocks.recognise(at, 32).has_value();
  };
  EXPECT_TRUE(with(1));
  EXPECT_TRUE(with(1000000000));  // immortal in all but name: None in a large program
  EXPECT_TRUE(with(65536));       // no address of anything
  EXPECT_TRUE(with(kPieBase >> 16));
  EXPECT_FALSE(with(0));
  EXPECT_FALSE(with(~std::uint64_t{0}));
  EXPECT_FALSE(with(std::uint64_t{1} << 63));
  EXPECT_FALSE(with(kBlocks));
  EXPECT_FALSE(with(blocks.python.type_type));
}

TEST(Objects, ABlockTooSmallForTheTypeIsRefused) {
  Blocks blocks;
  const Addr at = blocks.block(256);
  blocks.python.head(at, blocks.python.static_type({"large", 64}));
  EXPECT_TRUE(blocks.recognise(at, 64));
  EXPECT_TRUE(blocks.recognise(at, 56));  // perhaps without its last pointer
  EXPECT_FALSE(blocks.recognise(at, 48));
  EXPECT_FALSE(blocks.recognise(at, 16));
  EXPECT_FALSE(blocks.recognise(at, 8));
  EXPECT_FALSE(blocks.recognise(at, 0));
  const Addr collected = blocks.block(256);
  blocks.python.head(collected + 16, blocks.python.set_type);
  EXPECT_TRUE(blocks.recognise(collected, 216));
  EXPECT_FALSE(blocks.recognise(collected, 200));
  EXPECT_FALSE(blocks.recognise(collected, 24));
  const Addr instance = blocks.block(64);
  blocks.python.head(instance + 32, blocks.python.node_type);
  EXPECT_FALSE(blocks.recognise(instance, 40));
}

TEST(Objects, AnAsciiStrIsShorterThanItsTypesBasicsize) {
  Blocks blocks;
  const Addr at = blocks.block(64);
  blocks.python.ascii_at(at, "short");
  ASSERT_TRUE(blocks.recognise(at, 64));
  const Addr empty = blocks.block(64);
  blocks.python.ascii_at(empty, "");
  EXPECT_TRUE(blocks.recognise(empty, 64));
  EXPECT_FALSE(blocks.recognise(at, 48));  // not even the terminating NUL would fit
}

TEST(Objects, ADatetimeWithoutTzinfoEndsBeforeIt) {
  Blocks blocks;
  const Addr datetime = blocks.python.static_type({"datetime.datetime", 48});
  const Addr at = blocks.block(48);
  blocks.python.head(at, datetime);
  EXPECT_TRUE(blocks.recognise(at, 40));
}

TEST(Objects, FreedBlocksAreNone) {
  Blocks blocks;
  const Addr at = blocks.block(32);
  // Freed by obmalloc: the next free block's address lies over the count, the type is stale.
  blocks.python.head(at, blocks.python.float_type, blocks.block(32));
  EXPECT_FALSE(blocks.recognise(at, 32));
  // The last one of a free list.
  blocks.python.head(at, blocks.python.float_type, 0);
  EXPECT_FALSE(blocks.recognise(at, 32));
  // With a GC head the link lies over _gc_next; the count is 0.
  const Addr collected = blocks.block(64);
  blocks.python.head(collected + 16, blocks.python.list_type, 0);
  blocks.python.put(collected, at);
  EXPECT_FALSE(blocks.recognise(collected, 64));
}

// Arrays of types, as [int, str, ...] and a tuple of bases keep them, look like an object whose count is an address.
TEST(Objects, ItemArraysOfTypesAreNone) {
  for (const Addr base : {kPieBase, kLowBase}) {
    Blocks blocks(base);
    const FakePython& python = blocks.python;
    const std::vector<Addr> types = {python.int_type,  python.str_type, python.float_type, python.list_type,
                                     python.node_type, python.set_type, python.type_type};
    for (const Addr first : types) {
      for (const Addr second : types) {
        EXPECT_FALSE(blocks.words({first, second, first, second, first, second, first, second}));
        EXPECT_FALSE(blocks.words({0, 0, first, second, first, second, 0, 0}));
        EXPECT_FALSE(blocks.words({0, 0, 0, 0, first, second, 0, 0, 0, 0}));
        EXPECT_FALSE(blocks.words(std::vector<std::uint64_t>(64, first)));
        EXPECT_FALSE(blocks.words({0, second, 0, second, 0, second, 0, second}));
      }
    }
  }
}

TEST(Objects, KeysTablesAndValuesAreNone) {
  for (const Addr base : {kPieBase, kLowBase}) {
    Blocks blocks(base);
    FakePython& python = blocks.python;
    const Addr name = python.ascii("attribute");
    // Values, here types, behind a prefix: from its last byte down its own size, how many are set, and in which order.
    EXPECT_FALSE(blocks.words({0x0803000102000000, python.int_type, python.str_type, python.float_type, 0, 0, 0, 0}));
    // Keys: refcnt 1, then log2 sizes and kind where ob_type would be.
    EXPECT_FALSE(blocks.words({1, 0x010303, 5, 3, ~std::uint64_t{0}, name, python.int_type, name, python.str_type, 0}));
    EXPECT_FALSE(blocks.words({1, 0x010303, 0, 5, 0, name, python.int_type, name, python.list_type, 0}));
    // A set's table: entries of key and hash.
    EXPECT_FALSE(blocks.words({python.int_type, 0x1234, python.str_type, 0x5678, 0, 0, python.float_type, 0x9abc}));
    EXPECT_FALSE(blocks.words({name, python.int_type, name, python.str_type, name, python.float_type}));
  }
}

TEST(Objects, TextIsNone) {
  Blocks blocks;
  EXPECT_FALSE(blocks.words({0x6f6c6c6568206120, 0x2064656e69666564, 0x7365742073692074, 0x74}));
  EXPECT_FALSE(blocks.words({1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_FALSE(blocks.words({1, ~std::uint64_t{0}, 1, ~std::uint64_t{0}, 1, ~std::uint64_t{0}}));
}

TEST(Objects, AnswersDoNotDependOnWhatWasSeenBefore) {
  Blocks blocks;
  FakePython& python = blocks.python;
  const Addr instance = blocks.block(64);
  python.head(instance + 32, python.node_type);
  // Both an int and, behind what would be its GC head, a list.
  const Addr ambiguous = blocks.block(64);
  python.head(ambiguous, python.int_type, 8);
  python.head(ambiguous + 16, python.list_type);
  const Addr list = blocks.block(64);
  python.head(list + 16, python.list_type);
  const Snapshot snapshot = python.snapshot();
  const PyRuntime runtime = python.runtime();
  TypeTable types(snapshot, runtime);
  const auto look = [&](ObjectReader& reader, Addr at) {
    ObjectView object;
    return reader.recognise(at, reader.reader().span(at, 64), object) ? object.offset : ~0U;
  };
  ObjectReader fresh(snapshot, runtime.traits, types);
  fresh.start_pool();
  const std::uint32_t alone = look(fresh, ambiguous);
  ObjectReader used(snapshot, runtime.traits, types);
  EXPECT_EQ(look(used, instance), 32U);
  EXPECT_EQ(look(used, list), 16U);
  used.start_pool();
  EXPECT_EQ(look(used, ambiguous), alone);
}

TEST(Objects, AtAKnownAddress) {
  Blocks blocks;
  FakePython& python = blocks.python;
  const Addr list = blocks.block(64) + 16;
  python.head(list, python.list_type);
  python.track(list - 16, python.generation(0));
  const Addr number = blocks.block(32);
  python.head(number, python.int_type);
  const Addr damaged = blocks.block(64) + 16;
  python.head(damaged, python.list_type);
  python.put(damaged - 16, python.generation(0) + 4);
  // A collected object at the very start of what is mapped: its head is not there.
  python.add_memory(0x100000000000, 64, "");
  python.head(0x100000000000, python.list_type);
  const Snapshot snapshot = python.snapshot();
  const PyRuntime runtime = python.runtime();
  TypeTable types(snapshot, runtime);
  ObjectReader reader(snapshot, runtime.traits, types);
  ObjectView object;
  ASSERT_TRUE(reader.at(list, object));
  EXPECT_TRUE(object.tracked);
  EXPECT_EQ(object.type.address, python.list_type);
  ASSERT_TRUE(reader.at(number, object));
  EXPECT_FALSE(object.tracked);
  EXPECT_FALSE(reader.at(damaged, object));
  EXPECT_FALSE(reader.at(0x100000000000, object));
  EXPECT_FALSE(reader.at(0, object));
  EXPECT_FALSE(reader.at(~Addr{0} - 7, object));
}

}  // namespace
}  // namespace heapcore::testing
