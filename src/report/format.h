// How figures and tables look as text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace heapcore {

// "1.50 GiB", "812 B": powers of 1024, three figures or all there are before the point.
std::string bytes_text(std::uint64_t bytes);
// "12,345,678".
std::string count_text(std::uint64_t count);
// "1 arena", "4,000 arenas".
std::string counted(std::uint64_t count, std::string_view noun);
// "12.3 %"; "-" of nothing.
std::string percent_text(std::uint64_t part, std::uint64_t whole);
// "0x7f3a10".
std::string address_text(std::uint64_t address);
// Text from the target made fit for a terminal: control characters and what is no UTF-8 become \xNN, so that a hostile
// name moves no cursor.
std::string printable(std::string_view text);

// Breaks a line at spaces so that none is longer than `width` columns; what follows the first is indented. Words are
// not broken.
std::string wrapped(std::string_view line, std::size_t width, std::string_view indent);

enum class Align : std::uint8_t { kLeft, kRight };

// Columns as wide as their widest cell; the last left-aligned one is not padded.
class TextTable {
 public:
  explicit TextTable(std::vector<std::pair<std::string, Align>> columns) : columns_(std::move(columns)) {}

  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  std::string text(std::string_view indent = "") const;

 private:
  std::vector<std::pair<std::string, Align>> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace heapcore
