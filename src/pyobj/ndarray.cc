#include "pyobj/ndarray.h"

#include <fmt/format.h>

#include <iterator>

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
constexpr Addr kDescrBytes2 = 40;      // npy_intp
constexpr std::uint64_t kMostItemBytes = std::uint64_t{1} << 31;

// enum NPY_TYPES; long and long long both have 64 bits.
constexpr const char* kTypeNames[] = {"bool",    "int8",       "uint8",     "int16",      "uint16",      "int32",
                                      "uint32",  "int64",      "uint64",    "int64",      "uint64",      "float32",
                                      "float64", "longdouble", "complex64", "complex128", "clongdouble", "object",
                                      "S",       "U",          "V",         "datetime64", "timedelta64", "float16"};

}  // namespace

std::uint64_t NdArray::data_bytes() const {
  return checked_mul(elements, item_bytes).value_or(0);
}

NdArray read_ndarray(Reader& reader, Addr address) {
  NdArray array;
  std::uint32_t count = 0;
  std::uint32_t flags = 0;
  std::uint32_t type_number = 0;
  std::uint32_t bytes1 = 0;
  std::uint64_t bytes2 = 0;
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
  array.sound =
      reader.try_load(array.descr + kDescrKind, kind) && reader.try_load(array.descr + kDescrTypeNumber, type_number) &&
      reader.try_load(array.descr + kDescrBytes1, bytes1) && reader.try_load(array.descr + kDescrBytes2, bytes2);
  array.item_bytes = bytes2 != 0 && bytes2 < kMostItemBytes ? bytes2 : bytes1;
  array.dtype = type_number < std::size(kTypeNames) ? kTypeNames[type_number] : fmt::format("type {}", type_number);
  if (kind == 'S' || kind == 'V') array.dtype += std::to_string(array.item_bytes);
  if (kind == 'U') array.dtype += std::to_string(array.item_bytes / 4);
  return array;
}

}  // namespace heapcore
