// Which addresses are types, what they are called and how their instances are laid out, on synthesised memory.
#include "pyobj/types.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>

#include "py_builder.h"

namespace heapcore::testing {
namespace {

using namespace tp_flag;  // NOLINT(google-build-using-namespace)

// A TypeTable over what `python` holds now.
struct Table {
  explicit Table(FakePython& python)
      : snapshot(python.snapshot()), runtime(python.runtime()), types(snapshot, runtime) {}

  bool is_type(Addr address) { return types.classify(address).id != kNoType; }
  // REQUIRES: is_type(address).
  const TypeInfo& info(Addr address) { return types.info(types.classify(address).id); }
  std::string name(Addr address) {
    const TypeInfo& type = info(address);
    return type.module + "." + type.name;
  }

  Snapshot snapshot;
  PyRuntime runtime;
  TypeTable types;
};

TEST(Types, StaticTypes) {
  FakePython python;
  const Addr dotted = python.static_type({"collections.deque", 216, 8, kHaveGc});
  const Addr deep = python.static_type({"xml.etree.ElementTree.Element", 56, 0, kHaveGc});
  Table table(python);
  EXPECT_EQ(table.name(python.type_type), "builtins.type");
  EXPECT_EQ(table.name(python.int_type), "builtins.int");
  EXPECT_EQ(table.name(dotted), "collections.deque");
  EXPECT_EQ(table.name(deep), "xml.etree.ElementTree.Element");
  EXPECT_EQ(table.info(deep).module, "xml.etree.ElementTree");
  EXPECT_FALSE(table.info(dotted).is_heap_type);
  EXPECT_EQ(table.info(dotted).basicsize, 216U);
  EXPECT_EQ(table.info(dotted).itemsize, 8U);
  EXPECT_EQ(table.types.unnamed(), 0U);
}

TEST(Types, HeadersFollowTheFlags) {
  FakePython python;
  const Addr dict_without_gc = python.static_type({"odd", 24, 0, kManagedDict});
  Table table(python);
  EXPECT_EQ(table.info(python.int_type).header_bytes, 0U);
  EXPECT_EQ(table.info(python.list_type).header_bytes, 16U);
  EXPECT_EQ(table.info(python.slotted_type).header_bytes, 16U);
  EXPECT_EQ(table.info(python.node_type).header_bytes, 32U);
  EXPECT_EQ(table.info(dict_without_gc).header_bytes, 0U);
}

TEST(Types, MetatypesAreFollowed) {
  FakePython python;
  const Addr meta = python.heap_type({"ABCMeta", 408, 40, kTypeSubclass | kHaveGc, python.type_type}, "ABCMeta", "abc");
  const Addr meta_meta =
      python.heap_type({"MetaMeta", 408, 40, kTypeSubclass | kHaveGc, python.type_type}, "MetaMeta", "m");
  const Addr meta_of_meta = python.heap_type({"Meta", 408, 40, kTypeSubclass | kHaveGc, meta, meta_meta}, "Meta", "m");
  const Addr abstract = python.heap_type({"Sized", 16, 0, kHaveGc, 0, meta}, "Sized", "collections.abc");
  const Addr twice = python.heap_type({"Twice", 16, 0, kHaveGc, 0, meta_of_meta}, "Twice", "m");
  const Addr no_meta = python.heap_type({"NoMeta", 16, 0, kHaveGc}, "NoMeta", "m");
  const Addr of_no_meta = python.heap_type({"OfNoMeta", 16, 0, kHaveGc, 0, no_meta}, "OfNoMeta", "m");
  Table table(python);
  EXPECT_EQ(table.name(abstract), "collections.abc.Sized");
  EXPECT_EQ(table.name(twice), "m.Twice");
  EXPECT_EQ(table.name(meta_of_meta), "m.Meta");
  EXPECT_TRUE(table.is_type(no_meta));
  EXPECT_FALSE(table.is_type(of_no_meta));
}

TEST(Types, LoopsOfMetatypesAreNoTypes) {
  FakePython python;
  const Addr own = python.static_type({"own", 16, 0, kTypeSubclass});
  python.put(own + python.layout().PyObject.ob_type.offset, own);
  const Addr one = python.static_type({"one", 16, 0, kTypeSubclass});
  const Addr two = python.static_type({"two", 16, 0, kTypeSubclass, 0, one});
  python.put(one + python.layout().PyObject.ob_type.offset, two);
  Addr last = python.type_type;
  for (int i = 0; i < 50; ++i) last = python.static_type({"deep", 408, 0, kTypeSubclass, 0, last});
  Table table(python);
  EXPECT_FALSE(table.is_type(own));
  EXPECT_FALSE(table.is_type(one));
  EXPECT_FALSE(table.is_type(two));
  EXPECT_FALSE(table.is_type(last));  // deeper than anybody nests metatypes
}

TEST(Types, WhatDoesNotAddUpIsNoType) {
  FakePython python;
  const auto& fields = python.layout().PyTypeObject;
  const auto damaged = [&](const Field& field, std::uint64_t value) {
    const Addr at = python.static_type({"t", 32});
    python.put(at + field.offset, value);
    return at;
  };
  const Addr bad[] = {
      damaged(fields.tp_flags, 0),  // not READY
      damaged(fields.tp_basicsize, 0),
      damaged(fields.tp_basicsize, 15),
      damaged(fields.tp_basicsize, (1 << 20) + 1),
      damaged(fields.tp_basicsize, ~std::uint64_t{0}),
      damaged(fields.tp_itemsize, ~std::uint64_t{0}),
      damaged(python.layout().PyObject.ob_refcnt, 0),
      damaged(python.layout().PyObject.ob_refcnt, ~std::uint64_t{0}),
      damaged(python.layout().PyObject.ob_type, 0),
      damaged(python.layout().PyObject.ob_type, python.int_type),
      damaged(python.layout().PyObject.ob_type, ~Addr{0}),
      damaged(python.layout().PyObject.ob_type, python.type_type + 4),
  };
  const Addr good = damaged(fields.tp_itemsize, 8);
  // A type that the snapshot holds only the beginning of.
  const Addr cut = python.base() + FakePython::kModuleBytes - 200;
  python.head(cut, python.type_type);
  python.put(cut + fields.tp_flags.offset, kReady);
  python.put(cut + fields.tp_basicsize.offset, 16);
  Table table(python);
  for (std::size_t i = 0; i < std::size(bad); ++i) EXPECT_FALSE(table.is_type(bad[i])) << i;
  EXPECT_TRUE(table.is_type(good));
  EXPECT_FALSE(table.is_type(cut));
  for (const Addr nowhere : {Addr{0}, Addr{8}, Addr{1} << 40, ~Addr{0}, ~Addr{7}, good + 4, good + 8}) {
    EXPECT_FALSE(table.is_type(nowhere)) << nowhere;
  }
  EXPECT_EQ(table.types.size(), 1U);
}

TEST(Types, HeapTypesAreCalledByTheirOwnWords) {
  FakePython python;
  const Addr nested = python.heap_type({"Inner", 16, 0, kHaveGc}, "Outer.f.<locals>.Inner", "pkg.mod");
  const Addr no_module = python.heap_type({"Bare", 16, 0, kHaveGc}, "Bare", "");
  const Addr no_qualname = python.heap_type({"fallback", 16, 0, kHaveGc}, "", "pkg");
  const Addr extension = python.heap_type({"_struct.Struct", 56}, "Struct", "");
  const Addr with_property = python.heap_type({"P", 16, 0, kHaveGc}, "P", "");
  const Addr descriptor = python.data(64);
  python.head(descriptor, python.static_type({"property", 64}));
  python.put(with_property + python.layout().PyTypeObject.tp_dict.offset,
             python.dict({{python.ascii("__module__"), descriptor}}));
  const Addr no_dict = python.heap_type({"D", 16, 0, kHaveGc}, "D", "m");
  python.put(no_dict + python.layout().PyTypeObject.tp_dict.offset, 0);
  const Addr wide = python.heap_type({"w", 16, 0, kHaveGc}, "w", "m");
  python.put(wide + python.layout().PyHeapTypeObject.ht_qualname.offset, python.wide_str({0x3b1, 0x20ac}, 2));
  Table table(python);
  EXPECT_EQ(table.name(python.node_type), "__main__.Node");
  EXPECT_EQ(table.name(nested), "pkg.mod.Outer.f.<locals>.Inner");
  EXPECT_EQ(table.name(no_module), "?.Bare");
  EXPECT_EQ(table.name(no_qualname), "pkg.fallback");
  EXPECT_EQ(table.name(extension), "_struct.Struct");
  EXPECT_EQ(table.name(with_property), "?.P");
  EXPECT_EQ(table.name(no_dict), "?.D");
  EXPECT_EQ(table.name(wide), "m.\xce\xb1\xe2\x82\xac");
}

TEST(Types, NamesThatTheSnapshotLacks) {
  FakePython python;
  const Addr lost_text = python.c_text("lost");
  const Addr lost = python.static_type({"", 16});
  python.put(lost + python.layout().PyTypeObject.tp_name.offset, lost_text);
  const Addr lost_too = python.static_type({"", 16});
  const Addr float_like = python.static_type({"", 24});
  python.symbol("PyFloat_Type", float_like);
  // Exported types that have a name in memory keep that.
  python.symbol("PyLong_Type", python.int_type);
  python.lose({lost_text, lost_text + 5});
  Table table(python);
  EXPECT_TRUE(table.info(lost).name.starts_with("<type at 0x")) << table.info(lost).name;
  EXPECT_TRUE(table.info(lost_too).name.starts_with("<type at 0x"));
  EXPECT_EQ(table.info(lost).module, "");
  EXPECT_EQ(table.name(float_like), "builtins.float");
  EXPECT_EQ(table.name(python.int_type), "builtins.int");
  EXPECT_EQ(table.types.unnamed(), 2U);
}

TEST(Types, ANameThatOnlyLooksMissingIsNot) {
  FakePython python;
  const Addr odd = python.heap_type({"<dynamic>", 16, 0, kHaveGc}, "<dynamic>", "__main__");
  const Addr empty = python.heap_type({"E", 16, 0, kHaveGc}, "E", "__main__");
  python.put(empty + python.layout().PyHeapTypeObject.ht_qualname.offset, python.ascii(""));
  Table table(python);
  EXPECT_EQ(table.info(odd).name, "<dynamic>");
  EXPECT_EQ(table.info(empty).name, "");
  EXPECT_EQ(table.types.unnamed(), 0U);
}

TEST(Types, ALongNameIsNotReadWithoutEnd) {
  FakePython python;
  const Addr endless = python.static_type({std::string(5000, 'x'), 16});
  const Addr long_qualname = python.heap_type({"short", 16}, std::string(5000, 'y'), "m");
  std::string two_bytes_each = "z";
  for (int i = 0; i < 5000; ++i) two_bytes_each += "\xce\xb1";
  const Addr long_class = python.heap_type({two_bytes_each, 16}, two_bytes_each, "m");
  Table table(python);
  EXPECT_EQ(table.info(endless).name, fmt::format("{}... <type at {:#x}>", std::string(64, 'x'), endless));
  EXPECT_EQ(table.info(endless).module, "?");
  EXPECT_EQ(table.info(long_qualname).name, "short");
  const std::string begin = two_bytes_each.substr(0, 63);
  EXPECT_EQ(table.name(long_class), fmt::format("m.{}... <type at {:#x}>", begin, long_class));
  // Their names are there.
  EXPECT_EQ(table.types.unnamed(), 0U);
}

TEST(Types, AClassWithoutAModuleIsNotTheBuiltins) {
  FakePython python;
  const Addr none = python.heap_type({"None", 16}, "None", "");
  const Addr endless = python.heap_type({"Endless", 16}, "Endless", std::string(5000, 'm'));
  const Addr of_extension = python.heap_type({"extension.Type", 16}, "Type", "");
  Table table(python);
  EXPECT_EQ(table.name(none), "?.None");
  EXPECT_EQ(table.name(endless), "?.Endless");
  EXPECT_EQ(table.name(of_extension), "extension.Type");
}

TEST(Types, SizeRulesFollowFlagsAndBases) {
  FakePython python;
  const Addr deque = python.static_type({"collections.deque", 216, 0, kHaveGc, python.object_type});
  const Addr sub_deque = python.heap_type({"MyDeque", 232, 0, kHaveGc, deque}, "MyDeque", "m");
  const Addr named_set = python.heap_type({"set", 16, 0, kHaveGc, python.object_type}, "set", "m");
  const Addr sub_set = python.heap_type({"S", 232, 0, kHaveGc, python.set_type}, "S", "m");
  const Addr sub_dict = python.heap_type({"D", 64, 0, kHaveGc | kDictSubclass, python.dict_type}, "D", "m");
  const Addr ordered =
      python.static_type({"collections.OrderedDict", 112, 0, kHaveGc | kDictSubclass, python.dict_type});
  const Addr sub_ordered = python.heap_type({"O", 128, 0, kHaveGc | kDictSubclass, ordered}, "O", "m");
  const Addr meta = python.heap_type({"Meta", 408, 40, kTypeSubclass | kHaveGc, python.type_type}, "Meta", "m");
  const Addr loop_a = python.static_type({"loop_a", 16});
  const Addr loop_b = python.static_type({"loop_b", 16, 8, 0, loop_a});
  python.put(loop_a + python.layout().PyTypeObject.tp_base.offset, loop_b);
  const Addr lost_base = python.static_type({"lost_base", 16, 0, 0, 0x10});
  Table table(python);
  const auto rule = [&](Addr type) { return table.types.classify(type).size_rule; };
  EXPECT_EQ(rule(python.int_type), SizeRule::kInt);
  EXPECT_EQ(rule(python.str_type), SizeRule::kStr);
  EXPECT_EQ(rule(python.list_type), SizeRule::kList);
  EXPECT_EQ(rule(python.tuple_type), SizeRule::kVar);
  EXPECT_EQ(rule(python.float_type), SizeRule::kFixed);
  EXPECT_EQ(rule(python.type_type), SizeRule::kType);
  EXPECT_EQ(rule(meta), SizeRule::kType);
  EXPECT_EQ(rule(deque), SizeRule::kDeque);
  EXPECT_EQ(rule(sub_deque), SizeRule::kDeque);
  EXPECT_EQ(rule(named_set), SizeRule::kFixed);  // a class that is only called so
  EXPECT_EQ(rule(sub_set), SizeRule::kSet);
  EXPECT_EQ(rule(sub_dict), SizeRule::kDict);
  EXPECT_EQ(rule(ordered), SizeRule::kOrderedDict);
  EXPECT_EQ(rule(sub_ordered), SizeRule::kOrderedDict);
  EXPECT_EQ(rule(loop_a), SizeRule::kFixed);
  EXPECT_EQ(rule(loop_b), SizeRule::kVar);
  EXPECT_EQ(rule(lost_base), SizeRule::kFixed);
}

TEST(TypeCache, AnswersAsTheTableWouldWhateverCollides) {
  FakePython python;
  std::vector<Addr> types;
  for (int i = 0; i < 1500; ++i) types.push_back(python.static_type({"t", 16 + static_cast<std::uint64_t>(i) * 8}));
  Table table(python);
  TypeCache cache(table.types);
  EXPECT_EQ(cache.lookup(0).id, kNoType);  // what an empty slot holds
  std::set<TypeId> ids;
  for (int round = 0; round < 3; ++round) {
    for (std::size_t i = 0; i < types.size(); ++i) {
      const TypeBrief& brief = cache.lookup(types[i]);
      ASSERT_NE(brief.id, kNoType);
      ASSERT_EQ(brief.address, types[i]);
      ASSERT_EQ(brief.basicsize, 16 + i * 8);
      ids.insert(brief.id);
      // Addresses between types, of which there are more than slots.
      for (const std::uint64_t off : {8U, 16U, 24U, 160U}) ASSERT_EQ(cache.lookup(types[i] + off).id, kNoType);
    }
  }
  EXPECT_EQ(ids.size(), types.size());
  EXPECT_EQ(table.types.size(), types.size());
}

}  // namespace
}  // namespace heapcore::testing
