// What sys.getsizeof would say. tests/live compares with real interpreters; here are the formulas on made-up objects,
// and lengths that no interpreter writes.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <random>

#include "py_builder.h"
#include "pyobj/objects.h"

namespace heapcore::testing {
namespace {

using namespace tp_flag;  // NOLINT(google-build-using-namespace)

constexpr Addr kPlace = 0x7f7000000000;
constexpr std::uint64_t kPlaceBytes = 4096;
constexpr Addr kObject = kPlace + 64;

// One object at kObject, of any type.
struct One {
  FakePython python;
  std::map<std::string, Addr> types;

  One() {
    python.add_memory(kPlace, kPlaceBytes, "");
    const struct {
      const char* name;
      std::uint64_t basicsize;
      std::uint64_t itemsize;
      std::uint64_t flags;
    } others[] = {
        {"bytearray", 56, 0, 0},
        {"collections.deque", 216, 8, kHaveGc},
        {"collections.OrderedDict", 112, 0, kHaveGc | kDictSubclass},
        {"code", 192, 2, 0},
        {"frame", 80, 8, kHaveGc},
        {"generator", 88, 8, kHaveGc},
        {"_io.BufferedReader", 152, 0, kHaveGc},
        {"_io.BytesIO", 64, 0, kHaveGc},
        {"array.array", 64, 0, 0},
        {"_struct.Struct", 56, 0, 0},
        {"StgDict", 192, 0, kHaveGc | kDictSubclass},
        {"xml.etree.ElementTree.Element", 56, 0, kHaveGc},
        {"itertools.product", 48, 0, kHaveGc},
        {"itertools.combinations", 56, 0, kHaveGc},
        {"itertools.permutations", 64, 0, kHaveGc},
        {"decimal.Decimal", 104, 0, 0},
    };
    for (const auto& other : others) {
      types[other.name] =
          python.static_type({other.name, other.basicsize, other.itemsize, other.flags, python.object_type});
    }
    types["int"] = python.int_type;
    types["str"] = python.str_type;
    types["bytes"] = python.bytes_type;
    types["tuple"] = python.tuple_type;
    types["list"] = python.list_type;
    types["dict"] = python.dict_type;
    types["set"] = python.set_type;
    types["float"] = python.float_type;
    types["type"] = python.type_type;
    types["Node"] = python.node_type;
  }

  std::uint64_t size(const std::string& type) {
    python.head(kObject, types.at(type));
    return measured();
  }
  std::uint64_t measured() {
    const Snapshot snapshot = python.snapshot();
    const PyRuntime runtime = python.runtime();
    TypeTable table(snapshot, runtime);
    ObjectReader reader(snapshot, runtime.traits, table);
    ObjectView object;
    if (!reader.at(kObject, object)) return 0;
    return reader.size_of(object, reader.reader().span_to_end(kObject));
  }
  void set(const Field& field, std::uint64_t value) {
    if (field.width_bytes == 4) {
      python.put32(kObject + field.offset, static_cast<std::uint32_t>(value));
    } else {
      python.put(kObject + field.offset, value);
    }
  }
  const PyLayout& layout() const { return python.layout(); }
};

TEST(Sizes, FixedAndVariable) {
  One one;
  EXPECT_EQ(one.size("float"), 24U);
  EXPECT_EQ(one.size("Node"), 24U + 32);
  one.set(one.layout().PyVarObject.ob_size, 5);
  EXPECT_EQ(one.size("bytes"), 33U + 5);
  EXPECT_EQ(one.size("tuple"), 16U + 24 + 5 * 8);
  // A negative size is an int's sign in disguise; only the number of items counts.
  one.set(one.layout().PyVarObject.ob_size, static_cast<std::uint64_t>(-5));
  EXPECT_EQ(one.size("tuple"), 16U + 24 + 5 * 8);
}

TEST(Sizes, Ints) {
  One one;
  const std::pair<std::int64_t, std::uint64_t> cases[] = {{0, 28}, {1, 28}, {-1, 28}, {2, 32}, {-2, 32}, {100, 424}};
  for (const auto& [ob_size, expected] : cases) {
    one.set(one.layout().PyVarObject.ob_size, static_cast<std::uint64_t>(ob_size));
    EXPECT_EQ(one.size("int"), expected) << ob_size;
  }
}

TEST(Sizes, Strs) {
  One one;
  const auto str = [&](std::uint64_t length, unsigned kind, bool compact, bool ascii) {
    one.set(one.layout().PyASCIIObject.length, length);
    one.set(one.layout().PyASCIIObject.state, FakePython::str_state(kind, compact, ascii));
    return one.size("str");
  };
  EXPECT_EQ(str(0, 1, true, true), 49U);
  EXPECT_EQ(str(10, 1, true, true), 59U);
  EXPECT_EQ(str(10, 1, true, false), 72U + 11);
  EXPECT_EQ(str(10, 2, true, false), 72U + 22);
  EXPECT_EQ(str(10, 4, true, false), 72U + 44);
  const auto& compact = one.layout().PyCompactUnicodeObject;
  // A UTF-8 form that was asked for hangs off it, unless it is the characters themselves.
  one.set(compact.utf8, 0x1000);
  one.set(compact.utf8_length, 20);
  EXPECT_EQ(str(10, 2, true, false), 72U + 22 + 21);
  one.set(one.layout().PyUnicodeObject.data, 0x1000);
  EXPECT_EQ(str(10, 1, false, true), 80U + 11);
  one.set(one.layout().PyUnicodeObject.data, 0x2000);
  EXPECT_EQ(str(10, 2, false, false), 80U + 22 + 21);
}

TEST(Sizes, Containers) {
  One one;
  const PyLayout& layout = one.layout();
  one.set(layout.PyListObject.allocated, 12);
  EXPECT_EQ(one.size("list"), 16U + 40 + 12 * 8);
  one.set(layout.PySetObject.mask, 7);
  one.set(layout.PySetObject.table, kObject + layout.PySetObject.smalltable.offset);
  EXPECT_EQ(one.size("set"), 16U + 200);
  one.set(layout.PySetObject.mask, 31);
  one.set(layout.PySetObject.table, 0x1000);
  EXPECT_EQ(one.size("set"), 16U + 200 + 32 * 16);
  one.set(layout.PyVarObject.ob_size, 70);
  one.set(layout.dequeobject.leftindex, 31);
  EXPECT_EQ(one.size("collections.deque"), 16U + 216 + 2 * 66 * 8);
  one.set(layout.PyByteArrayObject.ob_alloc, 1000);
  EXPECT_EQ(one.size("bytearray"), 56U + 1000);
}

TEST(Sizes, Dicts) {
  One one;
  FakePython& python = one.python;
  const auto& fields = one.layout().PyDictObject;
  const Addr key = python.ascii("k");
  const std::uint64_t keys_bytes = 32 + 8 + 5 * 16;
  one.set(fields.ma_keys, python.dict_keys({{key, key}}, Keys::kUnicode));
  EXPECT_EQ(one.size("dict"), 16U + 48 + keys_bytes);
  one.set(fields.ma_keys, python.dict_keys({{key, key}}, Keys::kGeneral));
  EXPECT_EQ(one.size("dict"), 16U + 48 + 32 + 8 + 5 * 24);
  // Shared keys belong to the type; the dict has its values.
  one.set(fields.ma_keys, python.dict_keys({{key, 0}}, Keys::kSplit, 7));
  one.set(fields.ma_values, 0x1000);
  EXPECT_EQ(one.size("dict"), 16U + 48 + 5 * 8);
  one.set(fields.ma_values, 0);
  one.set(fields.ma_keys, 0x10);
  EXPECT_EQ(one.size("dict"), 16U + 48);
  one.set(fields.ma_keys, python.dict_keys({{key, key}}, Keys::kUnicode));
  one.set(fields.ma_used, 1);
  one.set(one.layout().PyODictObject.od_fast_nodes_size, 8);
  EXPECT_EQ(one.size("collections.OrderedDict"), 16U + 112 + keys_bytes + 8 * 8 + 32);
}

TEST(Sizes, WhatHangsOffOthers) {
  One one;
  FakePython& python = one.python;
  const PyLayout& layout = one.layout();
  const Addr descriptor = python.data(48);
  python.put32(descriptor + layout.arraydescr.itemsize.offset, 8);
  one.set(layout.arrayobject.allocated, 100);
  one.set(layout.arrayobject.ob_descr, descriptor);
  EXPECT_EQ(one.size("array.array"), 64U + 800);
  one.set(layout.buffered.buffer, 0x1000);
  one.set(layout.buffered.buffer_size, 8192);
  EXPECT_EQ(one.size("_io.BufferedReader"), 16U + 152 + 8192);
  one.set(layout.buffered.buffer, 0);
  EXPECT_EQ(one.size("_io.BufferedReader"), 16U + 152);
  const Addr buffer = python.data(64);
  python.head(buffer, python.bytes_type);
  python.put(buffer + layout.PyVarObject.ob_size.offset, 100);
  one.set(layout.bytesio.buf, buffer);
  EXPECT_EQ(one.size("_io.BytesIO"), 16U + 64 + 133);
  python.head(buffer, python.bytes_type, 2);
  EXPECT_EQ(one.size("_io.BytesIO"), 16U + 64);
  const Addr codes = python.data(128);
  python.put(codes, 0x1000);
  python.put(codes + 32, 0x1000);
  one.set(layout.PyStructObject.s_codes, codes);
  EXPECT_EQ(one.size("_struct.Struct"), 56U + 3 * 32);
  one.set(layout.PyDecObject.flags, 0);
  one.set(layout.PyDecObject.alloc, 10);
  EXPECT_EQ(one.size("decimal.Decimal"), 104U + 80);
  one.set(layout.PyDecObject.flags, 32);
  EXPECT_EQ(one.size("decimal.Decimal"), 104U);
}

TEST(Sizes, FramesAndCode) {
  One one;
  FakePython& python = one.python;
  const PyLayout& layout = one.layout();
  const Addr code = python.data(256);
  python.put32(code + layout.PyCodeObject.co_nlocalsplus.offset, 3);
  python.put32(code + layout.PyCodeObject.co_stacksize.offset, 4);
  one.set(layout.PyGenObject.gi_code, code);
  EXPECT_EQ(one.size("generator"), 16U + 80 + 72 + 7 * 8);
  const Addr frame = python.data(128);
  python.put(frame + layout._PyInterpreterFrame.f_code.offset, code);
  one.set(layout.PyFrameObject.f_frame, frame);
  EXPECT_EQ(one.size("frame"), 16U + 48 + 72 + 7 * 8);
  one.set(layout.PyVarObject.ob_size, 13);
  EXPECT_EQ(one.size("code"), 192U + 32);  // 26 bytes of code, rounded up
}

TEST(Sizes, ATypesOwn) {
  One one;
  EXPECT_EQ(one.size("type"), 16U + 408);  // the made-up `type` is collected, so a GC head is counted
  one.set(one.layout().PyTypeObject.tp_flags, kHeapType);
  EXPECT_EQ(one.size("type"), 16U + 904);
  const Addr key = one.python.ascii("a");
  one.set(one.layout().PyHeapTypeObject.ht_cached_keys, one.python.dict_keys({{key, 0}}, Keys::kSplit));
  EXPECT_EQ(one.size("type"), 16U + 904 + 32 + 8 + 5 * 16);
}

// Whatever lengths and pointers say: an answer, and no read beyond what is there.
TEST(Sizes, HostileValuesGetSomeAnswer) {
  One one;
  std::mt19937_64 random(5);
  const std::uint64_t values[] = {0,
                                  1,
                                  2,
                                  ~std::uint64_t{0},
                                  std::uint64_t{1} << 63,
                                  (std::uint64_t{1} << 63) - 1,
                                  std::uint64_t{1} << 62,
                                  std::uint64_t{1} << 61,
                                  0xffffffff,
                                  kPlace,
                                  kObject,
                                  kPlace + kPlaceBytes - 8,
                                  kPlace + kPlaceBytes,
                                  ~std::uint64_t{7}};
  const Snapshot snapshot = one.python.snapshot();
  const PyRuntime runtime = one.python.runtime();
  TypeTable table(snapshot, runtime);
  ObjectReader reader(snapshot, runtime.traits, table);
  for (const auto& [name, type] : one.types) {
    for (int round = 0; round < 3000; ++round) {
      for (Addr at = kPlace; at < kPlace + kPlaceBytes; at += 8) {
        if (at == kPlace + 512) break;
        one.python.put(at, values[random() % std::size(values)]);
      }
      one.python.head(kObject, type);
      if (round % 2 == 0) {
        for (const Addr head : {kObject - 16, kObject - 8}) one.python.put(head, 0);
      }
      ObjectView object;
      if (!reader.at(kObject, object)) continue;
      for (const std::uint64_t length : {16U, 24U, 40U, 200U, 1000U}) {
        static_cast<void>(reader.size_of(object, reader.reader().span(kObject, length)));
      }
    }
  }
  // The most negative length has no positive counterpart.
  one.set(one.layout().PyVarObject.ob_size, std::uint64_t{1} << 63);
  for (const char* type : {"int", "bytes", "tuple", "collections.deque"}) static_cast<void>(one.size(type));
}

}  // namespace
}  // namespace heapcore::testing
