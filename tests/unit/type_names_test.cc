// Names of static types from what modules hold, where tp_name's text is not in the snapshot.
#include "pyobj/type_names.h"

#include <gtest/gtest.h>

#include "py_builder.h"
#include "pyobj/types.h"

namespace heapcore::testing {
namespace {

constexpr Addr kExtension = 0x7f1000000000;

// A process whose sys.modules holds what a test puts there.
class Modules {
 public:
  Modules() {
    python.add_memory(kExtension, 0x4000, "/lib/_fast.so");
    module_type_ = python.static_type({"", 56, 0, tp_flag::kHaveGc, python.object_type});
    for (const Addr type :
         {python.type_type, python.object_type, python.int_type, python.dict_type, python.list_type}) {
      python.put(type + python.layout().PyTypeObject.tp_name.offset, 0);
    }
    python.remove_all_symbols();
  }

  Addr unnamed(std::uint64_t flags = 0) { return python.static_type({"", 16, 0, flags, python.object_type}); }
  Addr instance(Addr type) {
    const Addr at = python.data(64);
    python.head(at, type);
    return at;
  }
  using Items = std::vector<std::pair<std::string, Addr>>;
  Addr dict(const Items& items) {
    FakePython::Entries entries;
    for (const auto& [key, value] : items) entries.emplace_back(python.ascii(key), value);
    return python.dict(entries);
  }
  void module(const std::string& name, const Items& items) {
    const Addr at = instance(module_type_);
    python.put(at + python.layout().PyModuleObject.md_dict.offset, dict(items));
    modules_.emplace_back(python.ascii(name), at);
  }
  std::string name_of(Addr type) {
    const auto& fields = python.layout().PyInterpreterState;
    python.put(python.interpreter + fields.modules.offset, python.dict(modules_));
    Snapshot snapshot = python.snapshot();
    Module extension;
    extension.path = "/lib/_fast.so";
    extension.range = {kExtension, kExtension + 0x4000};
    snapshot.modules.push_back(extension);
    return StaticTypeNames(snapshot, python.runtime()).find(type).value_or("");
  }

  FakePython python;

 private:
  Addr module_type_ = 0;
  FakePython::Entries modules_;
};

TEST(TypeNames, BuiltinsFirstNameWins) {
  Modules modules;
  const Addr error = modules.unnamed();
  modules.module("app", {{"Alias", error}});
  modules.module("builtins", {{"OSError", error}, {"IOError", error}});
  EXPECT_EQ(modules.name_of(error), "OSError");
  EXPECT_EQ(modules.name_of(modules.python.int_type), "");
}

TEST(TypeNames, KnownModulesHoldTypesUnderOtherNames) {
  Modules modules;
  const Addr function = modules.unnamed();
  const Addr none = modules.unnamed();
  modules.module("builtins", {{"None", modules.instance(none)}});
  modules.module("types", {{"FunctionType", function}});
  EXPECT_EQ(modules.name_of(function), "function");
  EXPECT_EQ(modules.name_of(none), "NoneType");
}

TEST(TypeNames, TheModuleThatDefinesATypeIsBelievedBeforeOthers) {
  Modules modules;
  const Addr fast = kExtension + 0x100;
  modules.python.type_at(fast, {"", 16, 0, 0, modules.python.object_type});
  modules.module("app", {{"Quick", fast}});
  modules.module("_fast", {{"__file__", modules.python.ascii("/elsewhere/_fast.so")}, {"Fast", fast}});
  EXPECT_EQ(modules.name_of(fast), "_fast.Fast");
}

TEST(TypeNames, AnyHolderIsBetterThanNone) {
  Modules modules;
  const Addr type = modules.unnamed();
  modules.module("app", {{"Quick", type}});
  EXPECT_EQ(modules.name_of(type), "app.Quick");
}

TEST(TypeNames, AttributesTellOnlyTheInterpretersOwnTypesApart) {
  Modules modules;
  const Addr code = modules.python.ascii("text");
  const Addr generator = modules.unnamed();
  const Addr imitation = kExtension + 0x100;
  modules.python.type_at(imitation, {"", 16, 0, 0, modules.python.object_type});
  for (const Addr type : {generator, imitation}) {
    modules.python.put(type + modules.python.layout().PyTypeObject.tp_dict.offset,
                       modules.dict({{"send", code}, {"gi_code", code}}));
  }
  modules.module("builtins", {{"len", code}});
  EXPECT_EQ(modules.name_of(generator), "generator");
  EXPECT_EQ(modules.name_of(imitation), "");
}

// Size and flags prove nothing.
TEST(TypeNames, WhatNothingHoldsHasNoName) {
  Modules modules;
  const Addr type = modules.unnamed(tp_flag::kListSubclass | tp_flag::kHaveGc);
  modules.module("builtins", {{"thing", modules.instance(type)}});
  EXPECT_EQ(modules.name_of(type), "");
}

TEST(TypeNames, DamagedModulesEnd) {
  Modules modules;
  const Addr type = modules.unnamed();
  modules.module("builtins", {{"Thing", type}});
  const auto& fields = modules.python.layout().PyInterpreterState;
  EXPECT_EQ(modules.name_of(type), "Thing");
  Modules no_dict;
  const Addr other = no_dict.unnamed();
  EXPECT_EQ(no_dict.name_of(other), "");
  no_dict.python.put(no_dict.python.interpreter + fields.sysdict.offset, 0x10);
  EXPECT_EQ(no_dict.name_of(other), "");
}

// The census asks through the type table.
TEST(TypeNames, TheTypeTableUsesThem) {
  Modules modules;
  modules.module("builtins", {{"int", modules.python.int_type}, {"list", modules.python.list_type}});
  EXPECT_EQ(modules.name_of(modules.python.int_type), "int");
  const Snapshot snapshot = modules.python.snapshot();
  const PyRuntime runtime = modules.python.runtime();
  TypeTable types(snapshot, runtime);
  const TypeBrief brief = types.classify(modules.python.int_type);
  ASSERT_NE(brief.id, kNoType);
  EXPECT_EQ(types.info(brief.id).name, "int");
  EXPECT_EQ(types.info(brief.id).module, "builtins");
  EXPECT_TRUE(types.info(brief.id).named);
}

}  // namespace
}  // namespace heapcore::testing
