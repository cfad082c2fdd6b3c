// How figures and tables look.
#include "report/format.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace heapcore {
namespace {

constexpr std::uint64_t kKib = 1024;
constexpr std::uint64_t kMib = kKib * 1024;
constexpr std::uint64_t kGib = kMib * 1024;

TEST(Format, Bytes) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(812), "812 B");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(kKib), "1.00 KiB");
  EXPECT_EQ(bytes_text(1536), "1.50 KiB");
  EXPECT_EQ(bytes_text(kGib + kGib / 2), "1.50 GiB");
  EXPECT_EQ(bytes_text(kKib * 1024 * 1024 * 1024), "1.00 TiB");
  EXPECT_EQ(bytes_text(std::numeric_limits<std::uint64_t>::max()), "16.0 EiB");
}

TEST(Format, BytesRoundIntoTheNextUnit) {
  EXPECT_EQ(bytes_text(10 * kKib - 1), "10.0 KiB");
  EXPECT_EQ(bytes_text(100 * kKib - 1), "100 KiB");
  EXPECT_EQ(bytes_text(kMib - 1), "1.00 MiB");
  EXPECT_EQ(bytes_text(kGib - 1), "1.00 GiB");
  EXPECT_EQ(bytes_text(9 * kKib + 1013), "9.99 KiB");
  EXPECT_EQ(bytes_text(999 * kMib), "999 MiB");
}

TEST(Format, Counts) {
  EXPECT_EQ(count_text(0), "0");
  EXPECT_EQ(count_text(999), "999");
  EXPECT_EQ(count_text(1000), "1,000");
  EXPECT_EQ(count_text(12345678), "12,345,678");
  EXPECT_EQ(count_text(std::numeric_limits<std::uint64_t>::max()), "18,446,744,073,709,551,615");
}

TEST(Format, PercentAndAddress) {
  EXPECT_EQ(percent_text(1, 0), "-");
  EXPECT_EQ(percent_text(0, 7), "0.0 %");
  EXPECT_EQ(percent_text(123, 1000), "12.3 %");
  EXPECT_EQ(percent_text(7, 7), "100.0 %");
  EXPECT_EQ(address_text(0x7f3a10), "0x7f3a10");
  EXPECT_EQ(address_text(0), "0x0");
}

TEST(Format, PrintableMovesNoCursor) {
  EXPECT_EQ(printable("plain text, \xc3\xa4"), "plain text, \xc3\xa4");
  EXPECT_EQ(printable("\x1b[2Jgone\n\r\t\x7f"), "\\x1b[2Jgone\\x0a\\x0d\\x09\\x7f");
  EXPECT_EQ(printable(std::string_view("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(printable(""), "");
}

TEST(Format, TablesLineUp) {
  TextTable table({{"what", Align::kLeft}, {"bytes", Align::kRight}, {"note", Align::kLeft}});
  table.add({"a", "1", "x"});
  table.add({"longer than that", "1,234,567", ""});
  table.add({"\xc3\xa4\xc3\xb6", "20", "yes"});  // two characters in four bytes
  EXPECT_EQ(table.text("  "),
            "  what                  bytes  note\n"
            "  a                         1  x\n"
            "  longer than that  1,234,567\n"
            "  \xc3\xa4\xc3\xb6                       20  yes\n");
}

TEST(Format, TablesWithoutTitlesOrRows) {
  TextTable untitled({{"", Align::kLeft}, {"", Align::kRight}});
  EXPECT_EQ(untitled.text(), "");
  untitled.add({"a", "12"});
  untitled.add({"bcd", "3"});
  EXPECT_EQ(untitled.text(), "a    12\nbcd   3\n");
  EXPECT_EQ(TextTable({{"title", Align::kRight}}).text(), "title\n");
}

}  // namespace
}  // namespace heapcore
