// Values decoded from memory that says what cannot be: whatever is damaged is a finding, the rest is shown, and nothing
// takes long. (That sound objects are decoded right is for tests/live/test_values.py, in every version.)
#include "pyobj/values.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "py_builder.h"

namespace heapcore::testing {
namespace {

class Values : public ::testing::Test {
 protected:
  // What is shown of an object, with contents unless `withheld`.
  Value show(Addr address, std::size_t limit = 20, bool withheld = false) {
    snapshot_ = python.snapshot();
    runtime_ = python.runtime();
    TypeTable types(snapshot_, runtime_);
    findings = Findings();
    ValueReader reader(snapshot_, runtime_, types, {!withheld, limit}, findings);
    return reader.describe(address);
  }
  std::string text(Addr address) { return show(address).text; }
  bool damaged() const { return findings.count("object-damaged") != 0; }

  Addr gc_object(Addr type, std::uint64_t bytes) {
    const Addr at = python.data(16 + bytes) + 16;
    python.head(at, type);
    return at;
  }
  Addr integer(std::uint32_t digit) {
    const Addr at = python.data(32);
    python.head(at, python.int_type);
    python.put(at + layout().PyVarObject.ob_size.offset, 1);
    python.put32(at + layout().PyLongObject.ob_digit.offset, digit);
    return at;
  }
  Addr list(const std::vector<Addr>& items) {
    const Addr at = gc_object(python.list_type, 40);
    const Addr array = python.data(8 * items.size() + 8);
    python.put(at + layout().PyVarObject.ob_size.offset, items.size());
    python.put(at + layout().PyListObject.ob_item.offset, array);
    python.put(at + layout().PyListObject.allocated.offset, items.size());
    for (std::size_t i = 0; i < items.size(); ++i) python.put(array + 8 * i, items[i]);
    return at;
  }
  const PyLayout& layout() const { return python.layout(); }

  FakePython python;
  Findings findings;

 private:
  Snapshot snapshot_;
  PyRuntime runtime_;
};

TEST_F(Values, ContentsAreWithheldUnlessAskedFor) {
  const Addr dict = python.dict({{python.ascii("secret key"), python.ascii("secret value")}});
  EXPECT_EQ(show(dict, 20, true).text, "{<str of 10 characters>: <str of 12 characters>}");
  EXPECT_EQ(show(dict, 20, true).items[0].name, "<str of 10 characters>");
  EXPECT_EQ(show(dict).text, "{'secret key': 'secret value'}");
}

TEST_F(Values, KeysOfModulesAndInstancesAreNames) {
  const Addr module = python.dict({{python.ascii("__name__"), python.ascii("m")}, {python.ascii("f"), integer(1)}});
  EXPECT_EQ(show(module, 20, true).text, "{'__name__': <str of 1 character>, 'f': 1}");
  const Addr split = python.dict({{python.ascii("number"), integer(7)}}, Keys::kSplit);
  EXPECT_EQ(show(split, 20, true).text.substr(0, 1), "{");
}

TEST_F(Values, ALimitSaysWhatItHides) {
  std::vector<Addr> items;
  for (std::uint32_t i = 0; i < 10; ++i) items.push_back(integer(i));
  const Addr at = list(items);
  const Value value = show(at, 3);
  EXPECT_EQ(value.text, "[0, 1, 2, ...]");
  EXPECT_EQ(value.length, 10U);
  EXPECT_EQ(value.items.size(), 3U);
  EXPECT_EQ(show(at, 0).items.size(), 10U);
  EXPECT_FALSE(damaged());
}

TEST_F(Values, WhatHoldsItselfEnds) {
  const Addr at = list({0, 0});
  const Addr array = python.get(at + layout().PyListObject.ob_item.offset);
  python.put(array, at);
  python.put(array + 8, integer(5));
  EXPECT_EQ(text(at), "[[...], 5]");
}

TEST_F(Values, NestingIsBounded) {
  Addr at = list({});
  for (int depth = 0; depth < 1000; ++depth) at = list({at, at});
  EXPECT_LT(text(at).size(), std::size_t{1} << 20);
  EXPECT_LT(show(at, 0).text.size(), std::size_t{32} << 20);
}

TEST_F(Values, AListThatIsLongerThanMemory) {
  const Addr at = list({integer(1)});
  python.put(at + layout().PyVarObject.ob_size.offset, std::uint64_t{1} << 60);
  const Value value = show(at, 0);
  EXPECT_TRUE(damaged());
  EXPECT_TRUE(value.text.starts_with("[1")) << value.text;
  EXPECT_EQ(value.length, std::uint64_t{1} << 60);
}

TEST_F(Values, ItemsThatAreNoObjects) {
  const Addr at = list({integer(1), 0x1234560, integer(2), 0});
  EXPECT_EQ(text(at), "[1, <no object at 0x1234560>, 2, <null>]");
  EXPECT_TRUE(damaged());
  EXPECT_EQ(findings.kept()[0].address, at);
}

TEST_F(Values, StringsThatLie) {
  const Addr long_one = python.ascii("short");
  python.put(long_one + layout().PyASCIIObject.length.offset, std::uint64_t{1} << 40);
  EXPECT_EQ(text(long_one), "<str of 1099511627776 characters>");
  EXPECT_TRUE(damaged());
  python.put(long_one + layout().PyASCIIObject.length.offset, ~std::uint64_t{0});
  EXPECT_EQ(text(long_one), "<damaged str>");
  const Addr strange = python.ascii("text");
  python.put32(strange + layout().PyASCIIObject.state.offset, FakePython::str_state(7, true, false));
  EXPECT_EQ(text(strange), "<damaged str>");
  EXPECT_TRUE(damaged());
}

TEST_F(Values, IntsOfTooManyDigits) {
  const Addr at = integer(7);
  python.put(at + layout().PyVarObject.ob_size.offset, std::uint64_t{1} << 50);
  EXPECT_EQ(text(at), "<damaged int>");
  EXPECT_TRUE(damaged());
  python.put(at + layout().PyVarObject.ob_size.offset, std::uint64_t{1} << 63);
  EXPECT_EQ(text(at), "<damaged int>");
  python.put(at + layout().PyVarObject.ob_size.offset, ~std::uint64_t{0});
  EXPECT_EQ(text(at), "-7");
}

TEST_F(Values, DictsThatDoNotAddUp) {
  const Addr at = python.dict({{python.ascii("a"), integer(1)}, {python.ascii("b"), integer(2)}});
  python.put(at + layout().PyDictObject.ma_used.offset, 1000);
  EXPECT_EQ(text(at), "{'a': 1, 'b': 2, ...}");
  EXPECT_TRUE(damaged());
  python.put(at + layout().PyDictObject.ma_keys.offset, 8);
  EXPECT_EQ(text(at), "{...}");
  EXPECT_TRUE(damaged());
}

TEST_F(Values, SetsThatDoNotAddUp) {
  const auto& fields = layout().PySetObject;
  const Addr at = gc_object(python.set_type, fields.size_bytes == 0 ? 200 : fields.size_bytes);
  python.put(at + fields.used.offset, 5);
  python.put(at + fields.mask.offset, ~std::uint64_t{0} - 1);
  python.put(at + fields.table.offset, at + fields.smalltable.offset);
  EXPECT_EQ(text(at), "{...}");
  EXPECT_TRUE(damaged());
  python.put(at + fields.mask.offset, 7);
  python.put(at + fields.smalltable.offset, integer(3));
  EXPECT_EQ(text(at), "{3, ...}");
  EXPECT_TRUE(damaged());
}

TEST_F(Values, AnInstanceByItsSlotsAndBasesInACircle) {
  // A class with one member, whose base is itself.
  const auto& fields = layout().PyMemberDef;
  const Addr members = python.data(2 * fields.size_bytes);
  python.put(members + fields.name.offset, python.c_text("left"));
  python.put32(members + fields.type.offset, 16);
  python.put(members + fields.offset.offset, 16);
  python.put(python.slotted_type + layout().PyTypeObject.tp_members.offset, members);
  python.put(python.slotted_type + layout().PyTypeObject.tp_base.offset, python.slotted_type);
  const Addr at = gc_object(python.slotted_type, 32);
  python.put(at + 16, integer(9));
  const Value value = show(at);
  ASSERT_FALSE(value.attributes.empty());
  EXPECT_EQ(value.attributes[0].name, "left");
  EXPECT_EQ(value.attributes[0].text, "9");
}

TEST_F(Values, ADictThatIsNone) {
  const Addr at = gc_object(python.slotted_type, 32);
  python.put(python.slotted_type + layout().PyTypeObject.tp_dictoffset.offset, 24);
  python.put(at + 24, 0x123450);
  EXPECT_EQ(show(at).attributes.size(), 0U);
  EXPECT_TRUE(damaged());
}

TEST_F(Values, AnObjectOfAnUnknownTypeShowsItsPointers) {
  const Addr type = python.static_type({"ext.Thing", 48, 0, 0, 0});
  const Addr at = python.data(48);
  python.head(at, type);
  python.put(at + 16, 0x1234);
  python.put(at + 24, integer(4));
  const Value value = show(at);
  EXPECT_EQ(value.text, fmt::format("<ext.Thing object at {:#x}>", at));
  ASSERT_EQ(value.pointers.size(), 1U);
  EXPECT_EQ(value.pointers[0].name, "+24");
  EXPECT_EQ(value.pointers[0].text, "4");
}

TEST_F(Values, WhatIsNotInTheCoreIsNoDamage) {
  const Addr array = python.data(0) + 0x10000;
  const Addr at = list({integer(1), array});
  python.lose({array, array + 64});
  EXPECT_EQ(text(at), fmt::format("[1, <not in the core: {:#x}>]", array));
  EXPECT_FALSE(damaged());
}

}  // namespace
}  // namespace heapcore::testing
