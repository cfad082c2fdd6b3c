#include "pyobj/ndarray.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "pyobj/strings.h"

namespace heapcore {
namespace {

// PyArrayObject_fields; 64-bit.
constexpr Addr kData = 16;
constexpr Addr kDimensionCount = 24;  // int
constexpr Addr kDimensions = 32;
constexpr Addr kStrides = 40;
constexpr Addr kBase = 48;
constexpr Addr kDescr = 56;
constexpr Addr kFlags = 64;  // int
constexpr std::uint32_t kOwnsData = 4;
constexpr std::uint32_t kMostDimensions = 64;

// PyArray_Descr. 1.x has an int of the item's bytes where 2.x has 64 bits of flags, and the pointer to a subarray's
// dtype, or null, where 2.x has the item's bytes.
constexpr Addr kDescrKind = 24;        // char
constexpr Addr kDescrTypeNumber = 28;  // int
constexpr Addr kDescrBytes1 = 32;      // int
constexpr Addr kDescrAlignment1 = 36;  // int
constexpr Addr kDescrBytes2 = 40;      // npy_intp
constexpr std::uint64_t kMostItemBytes = std::uint64_t{1} << 31;
// A subarray (its items' dtype, its shape), and a dict of the fields (dtype, offset and perhaps title, by name).
constexpr Addr kDescrSubarray1 = 40;
constexpr Addr kDescrSubarray2 = 88;
constexpr Addr kDescrFields1 = 48;
constexpr Addr kDescrFields2 = 96;

// enum NPY_TYPES; long and long long both have 64 bits.
constexpr const char* kTypeNames[] = {"bool",    "int8",       "uint8",     "int16",      "uint16",      "int32",
                                      "uint32",  "int64",      "uint64",    "int64",      "uint64",      "float32",
                                      "float64", "longdouble", "complex64", "complex128", "clongdouble", "object",
                                      "S",       "U",          "V",         "datetime64", "timedelta64", "float16"};

struct DescrSize {
  std::uint64_t item_bytes = 0;
  bool is_version2 = false;
};

DescrSize size_of_descr(Reader& reader, Addr descr) {
  // 1.x has the item's alignment there, which is never 0; 2.x the upper half of the flags, which is.
  if (reader.load<std::uint32_t>(descr + kDescrAlignment1).value_or(0) == 0) {
    const std::uint64_t bytes2 = reader.load<std::uint64_t>(descr + kDescrBytes2).value_or(0);
    return {bytes2 < kMostItemBytes ? bytes2 : 0, true};
  }
  return {reader.load<std::uint32_t>(descr + kDescrBytes1).value_or(0), false};
}

void add_objects(Reader& reader, const PyTraits& traits, Addr descr, std::uint64_t at, int depth, ItemObjects& found) {
  constexpr std::size_t kMostObjects = 1024;
  constexpr int kMostNested = 16;
  if (depth > kMostNested || found.offsets.size() >= kMostObjects) return;
  const char kind = reader.load<char>(descr + kDescrKind).value_or(0);
  if (kind == 'O') found.offsets.push_back(at);
  if (kind != 'V') return;
  const DescrSize size = size_of_descr(reader, descr);
  const Addr subarray = reader.load<Addr>(descr + (size.is_version2 ? kDescrSubarray2 : kDescrSubarray1)).value_or(0);
  if (subarray != 0) {
    const Addr item = reader.load<Addr>(subarray).value_or(0);
    const std::uint64_t item_bytes = size_of_descr(reader, item).item_bytes;
    for (std::uint64_t i = 0;
         item_bytes != 0 && i < std::min<std::uint64_t>(size.item_bytes / item_bytes, kMostObjects); ++i)
      add_objects(reader, traits, item, at + i * item_bytes, depth + 1, found);
    return;
  }
  const Addr fields = reader.load<Addr>(descr + (size.is_version2 ? kDescrFields2 : kDescrFields1)).value_or(0);
  if (fields == 0) return;
  for (const auto& [name, field] : dict_items(reader, traits, fields)) {
    const Addr items = field + traits.layout->PyTupleObject.ob_item.offset;
    const Addr offset_at = reader.load<Addr>(items + sizeof(Addr)).value_or(0);
    if (const auto offset = small_int(reader, traits, offset_at))
      add_objects(reader, traits, reader.load<Addr>(items).value_or(0), at + *offset, depth + 1, found);
  }
}

}  // namespace

std::uint64_t NdArray::data_bytes() const {
  return checked_mul(elements, item_bytes).value_or(0);
}

NdArray read_ndarray(Reader& reader, Addr address) {
  NdArray array;
  std::uint32_t count = 0;
  std::uint32_t flags = 0;
  std::uint32_t type_number = 0;
  char kind = 0;
  Addr dimensions = 0;
  Addr strides = 0;
  reader.try_load(address + kData, array.data);
  reader.try_load(address + kBase, array.base);
  reader.try_load(address + kFlags, flags);
  array.owns_data = (flags & kOwnsData) != 0;
  if (!reader.try_load(address + kDimensionCount, count) || count > kMostDimensions ||
      !reader.try_load(address + kDimensions, dimensions) || !reader.try_load(address + kStrides, strides) ||
      !reader.try_load(address + kDescr, array.descr)) {
    return array;
  }
  array.elements = 1;
  for (std::uint32_t i = 0; i < count; ++i) {
    array.shape.push_back(reader.load<std::uint64_t>(dimensions + i * 8ULL).value_or(0));
    array.strides.push_back(reader.load<std::int64_t>(strides + i * 8ULL).value_or(0));
    array.elements = checked_mul(array.elements, array.shape.back()).value_or(0);
  }
  array.sound = reader.try_load(array.descr + kDescrKind, kind) &&
                reader.try_load(array.descr + kDescrTypeNumber, type_number) &&
                reader.load<std::uint64_t>(array.descr + kDescrBytes2).has_value();
  array.item_bytes = size_of_descr(reader, array.descr).item_bytes;
  array.dtype = type_number < std::size(kTypeNames) ? kTypeNames[type_number] : fmt::format("type {}", type_number);
  if (kind == 'S' || kind == 'V') array.dtype += std::to_string(array.item_bytes);
  if (kind == 'U') array.dtype += std::to_string(array.item_bytes / 4);
  return array;
}

// A field with a title is there twice.
ItemObjects objects_in_item(Reader& reader, const PyTraits& traits, Addr descr) {
  ItemObjects found;
  found.item_bytes = size_of_descr(reader, descr).item_bytes;
  add_objects(reader, traits, descr, 0, 0, found);
  std::sort(found.offsets.begin(), found.offsets.end());
  found.offsets.erase(std::unique(found.offsets.begin(), found.offsets.end()), found.offsets.end());
  return found;
}

}  // namespace heapcore
