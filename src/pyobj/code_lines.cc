#include "pyobj/code_lines.h"

namespace heapcore {
namespace {

unsigned unsigned_at(std::span<const std::byte> table, std::size_t i) {
  return std::to_integer<unsigned>(table[i]);
}

int signed_at(std::span<const std::byte> table, std::size_t i) {
  return static_cast<std::int8_t>(unsigned_at(table, i));
}

// PyCode_Addr2Line of 3.9.
int line_by_lnotab(std::span<const std::byte> table, int line, std::int64_t offset, bool is_signed) {
  std::int64_t at = 0;
  for (std::size_t i = 0; i + 1 < table.size(); i += 2) {
    at += unsigned_at(table, i);
    if (at > offset) break;
    line += is_signed ? signed_at(table, i + 1) : static_cast<int>(unsigned_at(table, i + 1));
  }
  return line;
}

int line_by_pairs(std::span<const std::byte> table, int line, std::int64_t offset) {
  constexpr int kNoLine = -128;
  std::int64_t end = 0;
  for (std::size_t i = 0; i + 1 < table.size(); i += 2) {
    end += unsigned_at(table, i);
    const int delta = signed_at(table, i + 1);
    if (delta != kNoLine) line += delta;
    if (offset < end) return delta == kNoLine ? 0 : line;
  }
  return 0;
}

// Six bits a byte, the least significant first; bit 6 says that more follow. The lowest bit of the number is its sign.
int signed_varint(std::span<const std::byte> table, std::size_t i) {
  std::uint32_t value = 0;
  for (unsigned shift = 0; i < table.size() && shift < 32; ++i, shift += 6) {
    value |= (unsigned_at(table, i) & 63) << shift;
    if ((unsigned_at(table, i) & 64) == 0) break;
  }
  const int magnitude = static_cast<int>(value >> 1);
  return (value & 1) != 0 ? -magnitude : magnitude;
}

// 1cccc lll: a code that says how line and columns follow, and how many instructions less one.
int line_by_locations(std::span<const std::byte> table, int line, std::int64_t offset) {
  constexpr unsigned kOneLine1 = 11;
  constexpr unsigned kOneLine2 = 12;
  constexpr unsigned kNoColumns = 13;
  constexpr unsigned kLong = 14;
  constexpr unsigned kNone = 15;
  constexpr std::int64_t kUnitBytes = 2;
  std::int64_t end = 0;
  std::int64_t sum = line;
  for (std::size_t i = 0; i < table.size();) {
    const unsigned head = unsigned_at(table, i);
    const unsigned code = head >> 3 & 15;
    if (code == kOneLine1 || code == kOneLine2) sum += code - (kOneLine1 - 1);
    if (code == kNoColumns || code == kLong) sum += signed_varint(table, i + 1);
    end += ((head & 7) + 1) * kUnitBytes;
    if (offset < end) return code == kNone ? 0 : static_cast<int>(sum);
    for (++i; i < table.size() && (unsigned_at(table, i) & 128) == 0;) ++i;
  }
  return 0;
}

}  // namespace

int line_at(LineTable form, std::span<const std::byte> table, int first_line, std::int64_t offset) {
  if (offset < 0) return first_line;
  switch (form) {
    case LineTable::kUnsignedLnotab:
      return line_by_lnotab(table, first_line, offset, false);
    case LineTable::kLnotab:
      return line_by_lnotab(table, first_line, offset, true);
    case LineTable::kPairs:
      return line_by_pairs(table, first_line, offset);
    case LineTable::kLocations:
      return line_by_locations(table, first_line, offset);
  }
  return 0;
}

}  // namespace heapcore
