// Classes of C++ objects by their vtables, in a made-up module: sound ones, and such as could lead astray. And what
// blocks look like.
#include "analysis/cpp_classes.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <random>

#include "analysis/native_blocks.h"

namespace heapcore::testing {
namespace {

constexpr Addr kConstants = 0x100000;  // of the module: read-only
constexpr Addr kVariables = 0x110000;  // writable
constexpr Addr kHeap = 0x900000;
constexpr std::uint64_t kBytes = 0x10000;

// One module with constants and variables, and a heap.
class FakeModule {
 public:
  FakeModule() {
    add(kConstants, constants_, "/lib/libshop.so", false);
    add(kVariables, variables_, "/lib/libshop.so", true);
    add(kHeap, heap_, "", true);
    Module module;
    module.path = "/lib/libshop.so";
    module.range = {kConstants, kVariables + kBytes};
    snapshot.modules.push_back(module);
    // The class of type_info objects, and its own type_info.
    name(0x8000, "N10__cxxabiv117__class_type_infoE");
    type_info(0x8100, kConstants + 0x8210, kConstants + 0x8000);
    vtable(0x8200, kConstants + 0x8100);
  }

  void word(Addr address, std::uint64_t value) { std::memcpy(at(address), &value, sizeof value); }
  void text(Addr address, std::string_view value) { std::memcpy(at(address), value.data(), value.size()); }
  // At offsets of the constants.
  void name(Addr offset, std::string_view value) { text(kConstants + offset, value); }
  void type_info(Addr offset, Addr vptr, Addr name) {
    word(kConstants + offset, vptr);
    word(kConstants + offset + 8, name);
  }
  void vtable(Addr offset, Addr type_info, std::uint64_t offset_to_top = 0) {
    word(kConstants + offset, offset_to_top);
    word(kConstants + offset + 8, type_info);
  }
  // A class all of which is sound; where its objects' first word leads.
  Addr make_class(Addr offset, std::string_view mangled) {
    name(offset + 0x100, mangled);
    type_info(offset + 0x20, kConstants + 0x8210, kConstants + offset + 0x100);
    vtable(offset, kConstants + offset + 0x20);
    return kConstants + offset + 0x10;
  }

  std::string class_of(Addr vptr) {
    snapshot.space.assign(segments_);
    const ModulePlaces places(snapshot);
    CppClasses classes(snapshot, places);
    const CppClasses::Id id = classes.class_of(vptr);
    EXPECT_EQ(classes.class_of(vptr), id);
    if (id == CppClasses::kNone) return "";
    EXPECT_EQ(classes.info(id).module, "libshop.so");
    return classes.info(id).name;
  }

  Snapshot snapshot;

 private:
  std::byte* at(Addr address) {
    return address >= kHeap        ? &heap_[address - kHeap]
           : address >= kVariables ? &variables_[address - kVariables]
                                   : &constants_[address - kConstants];
  }
  void add(Addr start, std::vector<std::byte>& bytes, const std::string& path, bool writable) {
    segments_.push_back({start, start + kBytes, bytes.data(), ByteState::kPresent, false});
    Mapping mapping;
    mapping.start = start;
    mapping.end = start + kBytes;
    mapping.path = path;
    mapping.readable = true;
    mapping.writable = writable;
    snapshot.mappings.push_back(mapping);
  }

  std::vector<std::byte> constants_ = std::vector<std::byte>(kBytes);
  std::vector<std::byte> variables_ = std::vector<std::byte>(kBytes);
  std::vector<std::byte> heap_ = std::vector<std::byte>(kBytes);
  std::vector<Segment> segments_;
};

TEST(CppClasses, AreNamedByTheirTypeInfo) {
  FakeModule module;
  EXPECT_EQ(module.class_of(module.make_class(0x1000, "N4shop5OrderE")), "shop::Order");
  EXPECT_EQ(module.class_of(module.make_class(0x2000, "3Foo")), "Foo");
  EXPECT_EQ(module.class_of(module.make_class(0x3000, "*N12_GLOBAL__N_16HiddenE")), "(anonymous namespace)::Hidden");
  EXPECT_EQ(module.class_of(module.make_class(0x4000,
                                              "St23_Sp_counted_ptr_inplaceI3FooSaIS0_ELN9__gnu_cxx12_Lock_"
                                              "policyE2EE")),
            "std::_Sp_counted_ptr_inplace<Foo, std::allocator<Foo>, (__gnu_cxx::_Lock_policy)2>");
  EXPECT_EQ(module.class_of(kConstants + 0x8210), "__cxxabiv1::__class_type_info");
}

TEST(CppClasses, VtablesThatAreNone) {
  FakeModule module;
  const Addr sound = module.make_class(0x1000, "3Foo");
  for (const Addr vptr : {Addr{0}, sound + 4, sound + 8, kConstants, kConstants + 8, kVariables + 0x100, kHeap + 0x10,
                          kHeap + kBytes, ~Addr{0}, ~Addr{7}, Addr{0x10}, Addr{0x500000}})
    EXPECT_EQ(module.class_of(vptr), "") << std::hex << vptr;

  module.vtable(0x1000, kConstants + 0x1020, 16);  // of a base that is not the object's beginning
  EXPECT_EQ(module.class_of(sound), "");
  for (const Addr type_info :
       {Addr{8}, kHeap, kConstants + 0x1021, kConstants + kBytes - 8, kConstants - 8, ~Addr{7}}) {
    module.vtable(0x1000, type_info);
    EXPECT_EQ(module.class_of(sound), "") << std::hex << type_info;
  }
}

TEST(CppClasses, TypeInfosThatAreNone) {
  FakeModule module;
  const Addr sound = module.make_class(0x1000, "3Foo");
  // Its class is not __cxxabiv1's: nothing, memory that is no module's, itself, another class.
  const Addr other = module.make_class(0x2000, "3Bar");
  for (const Addr vptr : {Addr{0}, kHeap + 0x100, kConstants + 0x1020, other, kConstants + 0x8211, kConstants}) {
    module.type_info(0x1020, vptr, kConstants + 0x1100);
    EXPECT_EQ(module.class_of(sound), "") << std::hex << vptr;
  }
  // Names: elsewhere, where they could be written, empty, not mangled, of what is no class.
  module.text(kVariables + 0x100, "3Foo");
  module.text(kHeap + 0x100, "3Foo");
  module.name(0x3000, "no name");
  module.name(0x3100, "i");
  module.name(0x3200, "\xff\xfe\x01");
  for (const Addr name : {Addr{0}, kVariables + 0x100, kHeap + 0x100, kConstants + 0x3080, kConstants + 0x3000,
                          kConstants + 0x3100, kConstants + 0x3200, ~Addr{0}}) {
    module.type_info(0x1020, kConstants + 0x8210, name);
    EXPECT_EQ(module.class_of(sound), "") << std::hex << name;
  }
}

TEST(CppClasses, NamesWithoutEnd) {
  FakeModule module;
  const Addr sound = module.make_class(0x1000, "3Foo");
  module.name(0x9000, std::string(0x7000, 'N'));  // to the end of the constants, and on in the variables
  module.type_info(0x1020, kConstants + 0x8210, kConstants + 0x9000);
  EXPECT_EQ(module.class_of(sound), "");
  module.type_info(0x1020, kConstants + 0x8210, kConstants + kBytes - 5);
  EXPECT_EQ(module.class_of(sound), "");
}

TEST(CppClasses, NamesThatWouldGrow) {
  // pair<pair<pair<...>>>: each level writes the one before twice.
  std::string mangled = "St4pairI1aS_E";
  for (int level = 0; level < 60; ++level) mangled = "St4pairI" + mangled + "S" + std::to_string(level % 10) + "_E";
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(demangled_type(mangled), mangled);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
  EXPECT_FALSE(demangled_type("no name"));
  EXPECT_FALSE(demangled_type(std::string(1000, 'N')));
}

TEST(NativeBlocks, Contents) {
  FakeModule module;
  module.class_of(0);  // puts the memory together
  const AddressSpace& space = module.snapshot.space;
  const auto content = [&](const std::vector<std::uint64_t>& words) {
    return content_of(std::as_bytes(std::span(words)), space);
  };
  const auto of_text = [&](std::string text, std::size_t bytes) {
    text.resize(bytes);
    return content_of(std::as_bytes(std::span(text)), space);
  };
  EXPECT_EQ(content({}), Content::kMissing);
  EXPECT_EQ(content({0, 0, 0}), Content::kZeroes);
  EXPECT_EQ(content({kHeap, 0, kHeap + 8, 5}), Content::kPointers);
  EXPECT_EQ(content({kHeap, 1ULL << 60, 2ULL << 60}), Content::kMixed);
  EXPECT_EQ(content({1, 2, ~std::uint64_t{0}, 70000}), Content::kSmallNumbers);
  EXPECT_EQ(content({1ULL << 60, 2ULL << 60}), Content::kMixed);
  EXPECT_EQ(of_text("an order of many things", 24), Content::kText);
  EXPECT_EQ(of_text("ab", 24), Content::kText);
  EXPECT_EQ(of_text("Gr\xc3\xb6\xc3\x9f"
                    "e und Ma\xc3\x9f",
                    40),
            Content::kText);
  EXPECT_EQ(of_text(std::string(200, 'x') + "\xc3", 201), Content::kText);  // cut inside a character
  EXPECT_EQ(of_text("\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8", 24), Content::kMixed);
  std::mt19937_64 random(7);
  std::vector<std::uint64_t> words(32);
  for (std::uint64_t& word : words) word = random();
  EXPECT_EQ(content(words), Content::kRandom);
  for (std::uint64_t& word : words) {
    const double number = std::uniform_real_distribution<>(1, 2)(random);
    std::memcpy(&word, &number, sizeof word);
  }
  EXPECT_EQ(content(words), Content::kMixed);  // numbers are not as random as that
}

}  // namespace
}  // namespace heapcore::testing
