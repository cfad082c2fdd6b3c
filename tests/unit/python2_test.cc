// What only CPython 2.7 has: blocks of ints and floats, two types of strings, dicts of one table. On synthesised
// memory.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "glibc_heap_builder.h"
#include "pyobj/number_blocks.h"
#include "pyobj/strings.h"

namespace heapcore::testing {
namespace {

constexpr Addr kModule = 0x560000000000;
constexpr std::uint64_t kModuleBytes = 1 << 20;
constexpr Addr kBlocks = 0x7f7000000000;
constexpr std::uint64_t kBlocksBytes = 1 << 16;

class Python2 : public FakeProcess {
 public:
  Python2() : traits_(*traits_for({0x020712f0, true})) {
    add_memory(kModule, kModuleBytes, "/usr/bin/python2.7");
    add_memory(kBlocks, kBlocksBytes, "");
    type_type = type(tp_flag::kTypeSubclass);
    int_type = type(tp_flag::kIntSubclass);
    str_type = type(tp_flag::kBytesSubclass);
    unicode_type = type(tp_flag::kUnicodeSubclass);
    dict_type = type(tp_flag::kDictSubclass);
  }

  const PyLayout& py() const { return *traits_.layout; }
  const PyTraits& py_traits() const { return traits_; }
  PyTraits& py_traits() { return traits_; }

  Addr data(std::uint64_t bytes) {
    const Addr at = data_;
    data_ += align_up(bytes, 16);
    return at;
  }
  void head(Addr at, Addr type, std::uint64_t refcnt = 1) {
    put(at + py().PyObject.ob_refcnt.offset, refcnt);
    put(at + py().PyObject.ob_type.offset, type);
  }
  Addr type(std::uint64_t flags) {
    const Addr at = data(py().PyTypeObject.size_bytes);
    head(at, type_type == 0 ? at : type_type);
    put(at + py().PyTypeObject.tp_flags.offset, flags | tp_flag::kReady);
    return at;
  }
  Addr str(const std::string& text) {
    const Addr at = data(py().PyStringObject.ob_sval.offset + text.size() + 1);
    head(at, str_type);
    put(at + py().PyVarObject.ob_size.offset, text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
      byte(at + py().PyStringObject.ob_sval.offset + i) = static_cast<unsigned char>(text[i]);
    }
    return at;
  }
  Addr unicode(const std::u32string& text) {
    const Addr at = data(py().PyUnicodeObject.size_bytes);
    const std::uint64_t unit = traits_.unicode_unit_bytes;
    const Addr characters = data((text.size() + 1) * unit);
    head(at, unicode_type);
    put(at + py().PyUnicodeObject.length.offset, text.size());
    put(at + py().PyUnicodeObject.str.offset, characters);
    for (std::size_t i = 0; i < text.size(); ++i) {
      for (std::uint64_t b = 0; b < unit; ++b) {
        byte(characters + i * unit + b) = static_cast<unsigned char>(text[i] >> 8 * b);
      }
    }
    return at;
  }
  Addr integer(std::uint64_t value) {
    const Addr at = data(py().PyIntObject.size_bytes);
    head(at, int_type);
    put(at + py().PyIntObject.ob_ival.offset, value);
    return at;
  }

  // Block number `i`, all of whose places are free, before `next`.
  Addr block(unsigned i, Addr next) {
    const Addr at = kBlocks + i * 1008 + 16;
    put(at, next);
    for (std::uint64_t slot = 1; slot < 41; ++slot) put(number(at, slot) + 8, number(at, slot - 1));
    put(number(at, 0) + 8, 0);
    return at;
  }
  static Addr number(Addr block, std::uint64_t slot) { return block + 8 + slot * 24; }

  std::vector<Addr> numbers(const std::vector<Addr>& blocks) {
    const Snapshot process = snapshot();
    Reader reader(process.space);
    std::vector<Addr> found;
    for (const Addr at : blocks) {
      const auto bytes = reader.span(at, number_block_bytes(traits_));
      for_each_number(traits_, int_type, at, bytes, [&](Addr number) { found.push_back(number); });
    }
    return found;
  }
  std::vector<Addr> blocks_from(Addr first, Findings& findings) {
    const Snapshot process = snapshot();
    Reader reader(process.space);
    return read_number_blocks(reader, traits_, {int_type, first, "test"}, findings);
  }
  // The list as it is found with nothing but the module's variables to go by.
  PyRuntime search(Findings& findings) {
    const Snapshot process = snapshot();
    Module module;
    module.path = "/usr/bin/python2.7";
    module.range = {kModule, kModule + kModuleBytes};
    PyRuntime runtime;
    runtime.traits = traits_;
    runtime.type_type = type_type;
    Interpreter interpreter;
    interpreter.address = data(py().PyInterpreterState.size_bytes);
    put(interpreter.address + py().PyInterpreterState.builtins.offset, dict({{str("int"), int_type}}));
    runtime.interpreters.push_back(interpreter);
    find_number_blocks(process, module, runtime, findings);
    return runtime;
  }
  Addr dict(const std::vector<std::pair<Addr, Addr>>& entries) {
    const Addr at = data(py().PyDictObject.size_bytes);
    const Addr table = at + py().PyDictObject.ma_smalltable.offset;
    head(at, dict_type);
    put(at + py().PyDictObject.ma_table.offset, table);
    put(at + py().PyDictObject.ma_mask.offset, 7);
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const Addr entry = table + 2 * i * py().PyDictEntry.size_bytes;  // every other entry is free
      put(entry + py().PyDictEntry.me_key.offset, entries[i].first);
      put(entry + py().PyDictEntry.me_value.offset, entries[i].second);
    }
    return at;
  }

  Addr type_type = 0;
  Addr int_type = 0;
  Addr str_type = 0;
  Addr unicode_type = 0;
  Addr dict_type = 0;

 private:
  PyTraits traits_;
  Addr data_ = kModule + 4096;
};

TEST(NumberBlocks, OnlyNumbersInUseAreFound) {
  Python2 python;
  const Addr last = python.block(0, 0);
  const Addr first = python.block(1, last);
  python.head(Python2::number(first, 40), python.int_type);
  python.head(Python2::number(last, 0), python.int_type, 7);
  python.put(Python2::number(last, 3), 5);  // a count alone makes no number
  Findings findings;
  const std::vector<Addr> blocks = python.blocks_from(first, findings);
  EXPECT_EQ(blocks, (std::vector<Addr>{last, first}));
  EXPECT_EQ(python.numbers(blocks), (std::vector<Addr>{Python2::number(last, 0), Python2::number(first, 40)}));
  EXPECT_TRUE(findings.kept().empty());
}

TEST(NumberBlocks, AListThatMeetsItselfEnds) {
  Python2 python;
  const Addr last = python.block(0, 0);
  const Addr first = python.block(1, last);
  python.put(last, first);
  Findings findings;
  EXPECT_EQ(python.blocks_from(first, findings).size(), 2U);
  EXPECT_EQ(findings.count("number-blocks-broken"), 1U);
}

TEST(NumberBlocks, AListThatLeavesTheMemoryEnds) {
  Python2 python;
  const Addr first = python.block(0, 0x10);
  Findings findings;
  EXPECT_EQ(python.blocks_from(first, findings), std::vector<Addr>{first});
  EXPECT_EQ(findings.count("number-blocks-broken"), 1U);
}

TEST(NumberBlocks, BlocksThatOverlapAreCountedOnce) {
  Python2 python;
  const Addr last = python.block(0, 0);
  python.put(last + 24, 0);
  const Addr first = python.block(2, last + 24);
  python.put(last + 24, last);
  Findings findings;
  EXPECT_EQ(python.blocks_from(first, findings), (std::vector<Addr>{last, first}));
  EXPECT_EQ(findings.count("number-blocks-broken"), 1U);
}

TEST(NumberBlocks, TheListIsFoundByItsShape) {
  Python2 python;
  const Addr last = python.block(0, 0);
  const Addr first = python.block(1, last);  // all free: what the newest block may be
  python.head(Python2::number(last, 0), python.int_type);
  python.put(python.data(8), last);  // leads to a part of the list only
  python.put(python.data(8), first);
  Findings findings;
  const PyRuntime runtime = python.search(findings);
  ASSERT_EQ(runtime.number_blocks.size(), 1U);
  EXPECT_EQ(runtime.number_blocks[0].type, python.int_type);
  EXPECT_EQ(runtime.number_blocks[0].first, first);
  EXPECT_EQ(findings.count("number-blocks-not-found"), 1U);  // there are no floats
}

TEST(Strings2, BothTypesAreDecoded) {
  Python2 python;
  const auto decode = [&](Addr address, std::uint64_t max_length = 100) {
    const Snapshot process = python.snapshot();
    Reader reader(process.space);
    return decode_str(reader, python.py_traits(), address, max_length);
  };
  EXPECT_EQ(decode(python.str("plain")), "plain");
  EXPECT_EQ(decode(python.str("")), "");
  EXPECT_EQ(decode(python.unicode(U"a\u20ac\U0001f40d")), "a\xe2\x82\xac\xf0\x9f\x90\x8d");
  EXPECT_EQ(decode(python.str("longer"), 5), std::nullopt);
  EXPECT_EQ(decode(python.integer(5)), std::nullopt);
  python.py_traits().unicode_unit_bytes = 2;
  EXPECT_EQ(decode(python.unicode(U"na\u00efve")), "na\xc3\xafve");
}

TEST(Strings2, DictsAndIntsAreRead) {
  Python2 python;
  const Addr value = python.integer(0x020712f0);
  const Addr dict = python.dict({{python.str("version"), python.integer(1)}, {python.str("hexversion"), value}});
  const Addr large = python.integer(std::uint64_t{1} << 40);
  const Snapshot process = python.snapshot();
  Reader reader(process.space);
  EXPECT_EQ(dict_get(reader, python.py_traits(), dict, "hexversion"), value);
  EXPECT_EQ(dict_get(reader, python.py_traits(), dict, "missing"), std::nullopt);
  EXPECT_EQ(small_int(reader, python.py_traits(), value), 0x020712f0U);
  EXPECT_EQ(small_int(reader, python.py_traits(), large), std::nullopt);
}

}  // namespace
}  // namespace heapcore::testing
