// How figures and tables look as text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "support/units.h"

namespace heapcore {

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
