// Tables from instruction to line, of each form. The tables are what compile() made of small functions in the versions
// named, the lines what traceback showed.
#include "pyobj/code_lines.h"

#include <gtest/gtest.h>

#include <vector>

namespace heapcore {
namespace {

std::vector<std::byte> bytes(const std::vector<int>& values) {
  std::vector<std::byte> out;
  for (const int value : values) out.push_back(static_cast<std::byte>(value));
  return out;
}

TEST(CodeLines, BeforeTheFirstInstructionIsTheFunctionsOwnLine) {
  for (const LineTable form :
       {LineTable::kUnsignedLnotab, LineTable::kLnotab, LineTable::kPairs, LineTable::kLocations})
    EXPECT_EQ(line_at(form, bytes({0, 1, 2, 1}), 10, -1), 10);
}

TEST(CodeLines, Lnotab) {
  // Lines 11 to byte 8, 12 to 20, back to 10 (3.6+: -2 is 254).
  const auto table = bytes({0, 1, 8, 1, 12, 254});
  EXPECT_EQ(line_at(LineTable::kLnotab, table, 10, 0), 11);
  EXPECT_EQ(line_at(LineTable::kLnotab, table, 10, 7), 11);
  EXPECT_EQ(line_at(LineTable::kLnotab, table, 10, 8), 12);
  EXPECT_EQ(line_at(LineTable::kLnotab, table, 10, 20), 10);
  EXPECT_EQ(line_at(LineTable::kUnsignedLnotab, table, 10, 20), 12 + 254);
}

TEST(CodeLines, Pairs) {
  // 0 to 8: line 11; 8 to 12: none; 12 to 20: line 13.
  const auto table = bytes({8, 1, 4, 128, 8, 2});
  EXPECT_EQ(line_at(LineTable::kPairs, table, 10, 0), 11);
  EXPECT_EQ(line_at(LineTable::kPairs, table, 10, 8), 0);
  EXPECT_EQ(line_at(LineTable::kPairs, table, 10, 12), 13);
  EXPECT_EQ(line_at(LineTable::kPairs, table, 10, 20), 0);
}

TEST(CodeLines, Locations) {
  // One instruction without columns, line +0; two of one line +1 (code 11, two bytes); one of none; one long, line -2.
  const auto table = bytes({0x80 | 13 << 3, 0, 0x80 | 11 << 3 | 1, 4, 9, 0x80 | 15 << 3, 0x80 | 14 << 3, 5, 0, 1, 1});
  EXPECT_EQ(line_at(LineTable::kLocations, table, 10, 0), 10);
  EXPECT_EQ(line_at(LineTable::kLocations, table, 10, 2), 11);
  EXPECT_EQ(line_at(LineTable::kLocations, table, 10, 4), 11);
  EXPECT_EQ(line_at(LineTable::kLocations, table, 10, 6), 0);
  EXPECT_EQ(line_at(LineTable::kLocations, table, 10, 8), 9);
  EXPECT_EQ(line_at(LineTable::kLocations, table, 10, 10), 0);
}

TEST(CodeLines, TablesThatBreakOff) {
  for (const LineTable form :
       {LineTable::kUnsignedLnotab, LineTable::kLnotab, LineTable::kPairs, LineTable::kLocations}) {
    for (std::size_t length = 0; length < 4; ++length) {
      const auto table = bytes(std::vector<int>(length, 0xff));
      line_at(form, table, 10, 1000000);
    }
  }
  // A number that never ends.
  EXPECT_EQ(line_at(LineTable::kLocations, bytes({0xe8, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f}), 10, 1 << 20), 0);
}

}  // namespace
}  // namespace heapcore
