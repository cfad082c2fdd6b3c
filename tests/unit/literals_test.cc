// Numbers and text as repr() writes them. What is expected is what CPython prints.
#include "pyobj/literals.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

namespace heapcore {
namespace {

std::string text_literal(const std::u32string& text, bool ascii_only = false) {
  StrLiteral literal(ascii_only);
  for (const char32_t c : text) literal.see(c);
  std::string out;
  literal.open(out);
  for (const char32_t c : text) literal.add(c, out);
  literal.close(out);
  return out;
}

TEST(Literals, Ints) {
  EXPECT_EQ(int_literal({}, false), "0");
  const std::vector<std::uint32_t> one = {1};
  EXPECT_EQ(int_literal(one, true), "-1");
  const std::vector<std::uint32_t> digit_and_more = {5, 1};  // 2^30 + 5
  EXPECT_EQ(int_literal(digit_and_more, false), "1073741829");
  const std::vector<std::uint32_t> over_a_word = {0, 0, 16};  // 2^64
  EXPECT_EQ(int_literal(over_a_word, true), "-18446744073709551616");
  const std::vector<std::uint32_t> zeros_inside = {1000000000 & 0x3fffffff, 0};
  EXPECT_EQ(int_literal(zeros_inside, false), "1000000000");
}

TEST(Literals, Floats) {
  EXPECT_EQ(float_literal(0.0), "0.0");
  EXPECT_EQ(float_literal(-0.0), "-0.0");
  EXPECT_EQ(float_literal(0.1), "0.1");
  EXPECT_EQ(float_literal(100.0), "100.0");
  EXPECT_EQ(float_literal(9999999999999998.0), "9999999999999998.0");
  EXPECT_EQ(float_literal(1e16), "1e+16");
  EXPECT_EQ(float_literal(1.5e300), "1.5e+300");
  EXPECT_EQ(float_literal(0.0001), "0.0001");
  EXPECT_EQ(float_literal(0.00001), "1e-05");
  EXPECT_EQ(float_literal(5e-324), "5e-324");
  EXPECT_EQ(float_literal(-std::numeric_limits<double>::infinity()), "-inf");
  EXPECT_EQ(float_literal(std::numeric_limits<double>::quiet_NaN()), "nan");
}

TEST(Literals, Complex) {
  EXPECT_EQ(complex_literal(0, 1), "1j");
  EXPECT_EQ(complex_literal(1.5, -2), "(1.5-2j)");
  EXPECT_EQ(complex_literal(-0.0, 3), "(-0+3j)");
  EXPECT_EQ(complex_literal(1, std::numeric_limits<double>::quiet_NaN()), "(1+nanj)");
}

TEST(Literals, Text) {
  EXPECT_EQ(text_literal(U""), "''");
  EXPECT_EQ(text_literal(U"it's"), "\"it's\"");
  EXPECT_EQ(text_literal(U"it's \"so\""), "'it\\'s \"so\"'");
  EXPECT_EQ(text_literal(U"a\tb\n\\\x01\x7f"), "'a\\tb\\n\\\\\\x01\\x7f'");
  EXPECT_EQ(text_literal(U"caf\u00e9 \U0001f40d"), "'caf\u00e9 \U0001f40d'");
  EXPECT_EQ(text_literal(U"caf\u00e9 \u20ac \U0001f40d", true), "'caf\\xe9 \\u20ac \\U0001f40d'");
  const std::u32string lone(1, static_cast<char32_t>(0xdc80));
  EXPECT_EQ(text_literal(lone), "'\\udc80'");
  EXPECT_EQ(text_literal(std::u32string(1, static_cast<char32_t>(0x110000))), "'\\U00110000'");  // damage
}

TEST(Literals, Bytes) {
  const std::vector<std::byte> bytes = {std::byte{'a'}, std::byte{0}, std::byte{0xff}, std::byte{'\''}};
  EXPECT_EQ(bytes_literal(bytes), "\"a\\x00\\xff'\"");
  EXPECT_EQ(bytes_literal({}), "''");
}

}  // namespace
}  // namespace heapcore
