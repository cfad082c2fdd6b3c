// Containers' room and spare bytes, and strings' contents, on synthesised memory.
#include "pyobj/capacity.h"

#include <gtest/gtest.h>

#include "py_builder.h"
#include "pyobj/text_bytes.h"

namespace heapcore::testing {
namespace {

using Ask = std::optional<Capacity> (CapacityReader::*)(Addr);

std::optional<Capacity> ask(FakePython& python, Ask what, Addr address) {
  const Snapshot snapshot = python.snapshot();
  Reader reader(snapshot.space);
  CapacityReader capacities(reader, python.py_traits());
  return (capacities.*what)(address);
}

constexpr std::uint64_t kHostile[] = {~std::uint64_t{0}, std::uint64_t{1} << 63, std::uint64_t{1} << 61};

TEST(Capacity, OfLists) {
  FakePython python;
  const Addr list = python.data(64);
  python.head(list, python.list_type);
  const auto& layout = python.layout();
  python.put(list + layout.PyVarObject.ob_size.offset, 9);
  python.put(list + layout.PyListObject.allocated.offset, 16);
  const auto found = ask(python, &CapacityReader::list, list);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->length, 9U);
  EXPECT_EQ(found->room, 16U);
  EXPECT_EQ(found->spare_bytes, 7U * 8);
  for (const std::uint64_t hostile : kHostile) {
    python.put(list + layout.PyListObject.allocated.offset, hostile);
    EXPECT_FALSE(ask(python, &CapacityReader::list, list));
  }
  python.put(list + layout.PyListObject.allocated.offset, 8);  // less than there are
  EXPECT_FALSE(ask(python, &CapacityReader::list, list));
  EXPECT_FALSE(ask(python, &CapacityReader::list, 0x10));
}

TEST(Capacity, OfDicts) {
  FakePython python;
  const Addr full = python.dict({{python.ascii("a"), python.int_type}});
  const auto found = ask(python, &CapacityReader::dict, full);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->length, 1U);
  EXPECT_EQ(found->spare_bytes, 0U);  // no dict with entries has less room
  // Without its only entry, all of the table is spare.
  const auto& fields = python.layout().PyDictObject;
  python.put(full + fields.ma_used.offset, 0);
  const auto empty = ask(python, &CapacityReader::dict, full);
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->length, 0U);
  EXPECT_GT(empty->spare_bytes, 5U * 16);
  for (const std::uint64_t hostile : kHostile) {
    python.put(full + fields.ma_used.offset, hostile);
    EXPECT_FALSE(ask(python, &CapacityReader::dict, full));
  }
}

TEST(Capacity, OfSets) {
  FakePython python;
  const auto& layout = python.layout();
  const Addr set = python.data(256);
  python.head(set, python.set_type);
  const auto make = [&](std::uint64_t used, std::uint64_t slots, bool small) {
    python.put(set + layout.PySetObject.used.offset, used);
    python.put(set + layout.PySetObject.mask.offset, slots - 1);
    python.put(set + layout.PySetObject.table.offset, small ? set + layout.PySetObject.smalltable.offset : 0x1000);
    return ask(python, &CapacityReader::set, set);
  };
  EXPECT_EQ(make(3, 8, true)->spare_bytes, 0U);
  EXPECT_EQ(make(3, 1024, false)->spare_bytes, 1024U * 16);  // a copy has room for them inside
  EXPECT_EQ(make(20, 1024, false)->spare_bytes, (1024U - 64) * 16);
  EXPECT_EQ(make(20, 64, false)->spare_bytes, 0U);
  EXPECT_FALSE(make(20, 63, false));  // no power of two
  EXPECT_FALSE(make(20, 16, false));  // fewer slots than members
  EXPECT_FALSE(make(20, 0, false));
  EXPECT_FALSE(make(20, std::uint64_t{1} << 62, false));
}

TEST(TextBytes, AreTheCharactersAsTheyLie) {
  FakePython python;
  const Addr plain = python.ascii("plain");
  const Addr wide = python.wide_str({0x3b1, 'x', 0x20ac}, 2);
  const Addr elsewhere = python.wide_str({'s', 'u', 'b'}, 1, false);
  const Snapshot snapshot = python.snapshot();
  Reader reader(snapshot.space);
  const auto text = [&](Addr address) { return text_bytes(reader, python.py_traits(), Kind::kStr, address); };
  EXPECT_TRUE(text(plain).sound);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(text(plain).bytes.data()), text(plain).bytes.size()), "plain");
  EXPECT_EQ(text(wide).length, 3U);
  EXPECT_EQ(text(wide).bytes.size(), 6U);
  EXPECT_EQ(text(elsewhere).bytes.size(), 3U);
  EXPECT_FALSE(text(0x10).sound);
}

TEST(TextBytes, LengthsBeyondTheMemoryAreRefused) {
  FakePython python;
  const Addr plain = python.ascii("plain");
  for (const std::uint64_t hostile : kHostile) {
    python.put(plain + python.layout().PyASCIIObject.length.offset, hostile);
    const Snapshot snapshot = python.snapshot();
    Reader reader(snapshot.space);
    EXPECT_FALSE(text_bytes(reader, python.py_traits(), Kind::kStr, plain).sound);
  }
}

}  // namespace
}  // namespace heapcore::testing
