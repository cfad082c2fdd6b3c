// str objects and dict entries on synthesised memory.
#include "pyobj/strings.h"

#include <gtest/gtest.h>

#include <random>

#include "py_builder.h"

namespace heapcore::testing {
namespace {

std::optional<std::string> decode(FakePython& python, Addr address, std::uint64_t max_length = 512) {
  const Snapshot snapshot = python.snapshot();
  Reader reader(snapshot.space);
  return decode_str(reader, python.py_traits(), address, max_length);
}

std::optional<Addr> get(FakePython& python, Addr dict, std::string_view key) {
  const Snapshot snapshot = python.snapshot();
  Reader reader(snapshot.space);
  return dict_get(reader, python.py_traits(), dict, key);
}

std::optional<DictKeys> keys_at(FakePython& python, Addr address) {
  const Snapshot snapshot = python.snapshot();
  Reader reader(snapshot.space);
  return read_dict_keys(reader, python.py_traits(), address);
}

TEST(DecodeStr, EveryKind) {
  FakePython python;
  EXPECT_EQ(decode(python, python.ascii("plain")), "plain");
  EXPECT_EQ(decode(python, python.ascii("")), "");
  EXPECT_EQ(decode(python, python.wide_str({'c', 'a', 'f', 0xe9}, 1)), "caf\xc3\xa9");
  EXPECT_EQ(decode(python, python.wide_str({0x3b1, 'x', 0x20ac}, 2)), "\xce\xb1x\xe2\x82\xac");
  EXPECT_EQ(decode(python, python.wide_str({0x1f40d, 0x7ff, 0x800, 0xffff, 0x10000, 0x10ffff}, 4)),
            "\xf0\x9f\x90\x8d\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
}

TEST(DecodeStr, NonCompactReadsItsCharactersElsewhere) {
  FakePython python;
  EXPECT_EQ(decode(python, python.wide_str({'s', 'u', 'b'}, 1, false)), "sub");
  EXPECT_EQ(decode(python, python.wide_str({0x20ac}, 2, false)), "\xe2\x82\xac");
  EXPECT_EQ(decode(python, python.wide_str({0x1f40d}, 4, false)), "\xf0\x9f\x90\x8d");
  const Addr lost = python.wide_str({'x'}, 1, false);
  python.put(lost + python.layout().PyUnicodeObject.data.offset, 0x10);
  EXPECT_EQ(decode(python, lost), std::nullopt);
}

TEST(DecodeStr, WhatIsNoCharacterIsReplaced) {
  FakePython python;
  const std::string replaced = "\xef\xbf\xbd";
  EXPECT_EQ(decode(python, python.wide_str({0xd800, 'a', 0xdfff}, 2)), replaced + "a" + replaced);
  EXPECT_EQ(decode(python, python.wide_str({0xd83d, 0xdc0d}, 4)), replaced + replaced);
  EXPECT_EQ(decode(python, python.wide_str({0x110000, 0xffffffff}, 4)), replaced + replaced);
}

TEST(DecodeStr, LengthsBeyondTheBoundOrTheMemoryAreRefused) {
  FakePython python;
  const Addr text = python.ascii(std::string(100, 'x'));
  EXPECT_TRUE(decode(python, text, 100));
  EXPECT_FALSE(decode(python, text, 99));
  const Addr length = text + python.layout().PyASCIIObject.length.offset;
  for (const std::uint64_t hostile :
       {~std::uint64_t{0}, std::uint64_t{1} << 62, std::uint64_t{1} << 63, std::uint64_t{1} << 30}) {
    python.put(length, hostile);
    EXPECT_FALSE(decode(python, text));
    EXPECT_FALSE(decode(python, text, ~std::uint64_t{0}));  // not there
  }
}

TEST(DecodeStr, WhatIsNoStrIsRefused) {
  FakePython python;
  const Addr number = python.data(64);
  python.head(number, python.int_type);
  EXPECT_FALSE(decode(python, number));
  EXPECT_FALSE(decode(python, 0));
  EXPECT_FALSE(decode(python, 0x1234));
  EXPECT_FALSE(decode(python, ~Addr{0}));
  const Addr text = python.ascii("text");
  for (const unsigned kind : {0U, 3U, 5U, 7U}) {
    python.put32(text + python.layout().PyASCIIObject.state.offset, FakePython::str_state(kind, true, true));
    EXPECT_FALSE(decode(python, text)) << kind;
  }
}

TEST(DictGet, FindsInEveryKindOfDict) {
  FakePython python;
  for (const Keys kind : {Keys::kGeneral, Keys::kUnicode, Keys::kSplit}) {
    const Addr first = python.ascii("1");
    const Addr second = python.ascii("2");
    const Addr dict = python.dict({{python.ascii("alpha"), first},
                                   {0, 0},
                                   {python.ascii("unset"), 0},
                                   {python.wide_str({0x20ac}, 2), first},
                                   {python.ascii("beta"), second}},
                                  kind);
    EXPECT_EQ(get(python, dict, "alpha"), first);
    EXPECT_EQ(get(python, dict, "beta"), second);
    EXPECT_EQ(get(python, dict, "\xe2\x82\xac"), first);
    EXPECT_FALSE(get(python, dict, "unset"));
    EXPECT_FALSE(get(python, dict, "alph"));
    EXPECT_FALSE(get(python, dict, "alphas"));
    EXPECT_FALSE(get(python, dict, ""));
  }
}

TEST(DictGet, KeysThatAreNoStrAreSkipped) {
  FakePython python;
  const Addr number = python.data(64);
  python.head(number, python.int_type);
  const Addr value = python.ascii("v");
  const Addr dict = python.dict({{number, value}, {0x10, value}, {python.ascii("k"), value}}, Keys::kGeneral);
  EXPECT_EQ(get(python, dict, "k"), value);
}

TEST(DictGet, LargeDictsHaveWiderIndices) {
  FakePython python;
  FakePython::Entries entries;
  for (int i = 0; i < 400; ++i) entries.emplace_back(python.ascii("key" + std::to_string(i)), 0x1000 + 8 * i);
  const Addr dict = python.dict(entries);
  EXPECT_EQ(get(python, dict, "key0"), 0x1000U);
  EXPECT_EQ(get(python, dict, "key399"), 0x1000U + 8 * 399);
}

TEST(DictKeysTable, AddsUp) {
  FakePython python;
  const Addr at = python.dict_keys({{python.ascii("a"), 1}, {python.ascii("b"), 2}}, Keys::kGeneral, 3);
  const auto keys = keys_at(python, at);
  ASSERT_TRUE(keys);
  EXPECT_EQ(keys->nentries, 2U);
  EXPECT_EQ(keys->usable, 3U);
  EXPECT_EQ(keys->capacity, 5U);
  EXPECT_EQ(keys->refcnt, 3);
  EXPECT_EQ(keys->size_bytes, 32U + 8 + 5 * 24);
  EXPECT_EQ(keys->entries_offset, 40U);
}

TEST(DictKeysTable, HostileHeadersAreRefused) {
  FakePython python;
  const Addr at = python.dict_keys({{python.ascii("a"), 1}}, Keys::kUnicode);
  const auto& fields = python.layout().PyDictKeysObject;
  const auto refused = [&](const Field& field, std::uint64_t value) {
    const std::uint64_t before = python.get(at + field.offset);
    if (field.width_bytes == 1) {
      python.byte(at + field.offset) = static_cast<unsigned char>(value);
    } else {
      python.put(at + field.offset, value);
    }
    const bool result = !keys_at(python, at);
    python.put(at + field.offset, before);
    return result;
  };
  EXPECT_FALSE(refused(fields.dk_kind, 1));
  EXPECT_TRUE(refused(fields.dk_kind, 3));
  EXPECT_TRUE(refused(fields.dk_kind, 255));
  for (const unsigned log2 : {49U, 63U, 64U, 65U, 128U, 255U}) {
    EXPECT_TRUE(refused(fields.dk_log2_size, log2)) << log2;
    if (log2 > 51) {
      EXPECT_TRUE(refused(fields.dk_log2_index_bytes, log2)) << log2;
    }
  }
  EXPECT_TRUE(refused(fields.dk_log2_index_bytes, 2));
  EXPECT_TRUE(refused(fields.dk_nentries, 6));
  EXPECT_TRUE(refused(fields.dk_nentries, ~std::uint64_t{0}));
  EXPECT_TRUE(refused(fields.dk_usable, 6));
  EXPECT_TRUE(refused(fields.dk_usable, std::uint64_t{1} << 63));
  EXPECT_FALSE(keys_at(python, 0));
  EXPECT_FALSE(keys_at(python, ~Addr{0} - 8));
}

TEST(DictGet, ATableThatRunsOutOfMemoryEnds) {
  FakePython python;
  const Addr keys_memory = 0x100000000000;
  python.add_memory(keys_memory, 4096, "");
  const Addr keys = keys_memory + 4096 - 128;
  const auto& fields = python.layout().PyDictKeysObject;
  python.byte(keys + fields.dk_log2_size.offset) = 40;
  python.byte(keys + fields.dk_log2_index_bytes.offset) = 40;
  python.byte(keys + fields.dk_kind.offset) = 1;
  python.put(keys + fields.dk_nentries.offset, std::uint64_t{1} << 38);
  const Addr dict = python.dict({});
  python.put(dict + python.layout().PyDictObject.ma_keys.offset, keys);
  EXPECT_FALSE(get(python, dict, "x"));
}

// Zeros cost a snapshot nothing, so a table in them may claim any number of entries.
TEST(DictGet, AHugeTableOfZerosEndsSoon) {
  FakePython python;
  const auto& fields = python.layout().PyDictKeysObject;
  const Addr keys = python.base() + FakePython::kModuleBytes - 64;
  python.byte(keys + fields.dk_log2_size.offset) = 40;
  python.byte(keys + fields.dk_log2_index_bytes.offset) = 40;
  python.byte(keys + fields.dk_kind.offset) = 1;
  python.put(keys + fields.dk_nentries.offset, std::uint64_t{1} << 38);
  const Addr dict = python.dict({});
  python.put(dict + python.layout().PyDictObject.ma_keys.offset, keys);
  Snapshot snapshot = python.snapshot();
  const Addr end = python.base() + FakePython::kModuleBytes;
  snapshot.space.overlay({{end, end + (Addr{1} << 44), nullptr, ByteState::kZeroFill, false}});
  Reader reader(snapshot.space);
  EXPECT_FALSE(dict_get(reader, python.py_traits(), dict, "x"));
}

TEST(Strings, RandomBytesAreNeverReadOutOfBounds) {
  std::mt19937_64 random(7);
  FakePython python;
  const Addr text = python.ascii("some text");
  const Addr keys = python.dict_keys({{text, text}, {text, text}}, Keys::kUnicode);
  const Addr dict = python.dict({{text, text}}, Keys::kSplit);
  python.put(dict + python.layout().PyDictObject.ma_keys.offset, keys);
  const Snapshot snapshot = python.snapshot();
  Reader reader(snapshot.space);
  for (int round = 0; round < 20000; ++round) {
    const Addr target = (round % 3 == 0 ? text : round % 3 == 1 ? keys : dict) + random() % 64;
    const unsigned char before = python.byte(target);
    python.byte(target) = static_cast<unsigned char>(random());
    static_cast<void>(decode_str(reader, python.py_traits(), text, 4096));
    static_cast<void>(dict_get(reader, python.py_traits(), dict, "some text"));
    if (random() % 4 == 0) python.byte(target) = before;
    if (round % 50 == 0) {
      python.ascii_at(text, "some text");
      python.put(dict + python.layout().PyDictObject.ma_keys.offset, keys);
    }
  }
}

}  // namespace
}  // namespace heapcore::testing
