#include "report/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace heapcore {
namespace {

// Terminal columns of UTF-8 text: its code points. (Wide characters are rare in names of types and files.)
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

}  // namespace

std::string wrapped(std::string_view line, std::size_t width, std::string_view indent) {
  std::string result;
  std::size_t column = 0;
  while (!line.empty()) {
    const std::size_t space = std::min(line.find(' '), line.size());
    const std::string_view word = line.substr(0, space);
    line.remove_prefix(std::min(space + 1, line.size()));
    if (column != 0 && column + 1 + width_of(word) > width) {
      result += '\n';
      result += indent;
      column = indent.size();
    } else if (column != 0) {
      result += ' ';
      ++column;
    }
    result += word;
    column += width_of(word);
  }
  return result;
}

std::string TextTable::text(std::string_view indent) const {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    std::size_t width = width_of(columns_[i].first);
    for (const std::vector<std::string>& row : rows_) width = std::max(width, width_of(row[i]));
    widths.push_back(width);
  }
  std::string result;
  const auto add_line = [&](const auto& cell_of) {
    std::string line(indent);
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      const std::string& cell = cell_of(i);
      const std::string padding(widths[i] - width_of(cell), ' ');
      if (i != 0) line += "  ";
      line += columns_[i].second == Align::kRight ? padding + cell : cell + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    result += line + '\n';
  };
  const bool titled = std::any_of(columns_.begin(), columns_.end(), [](const auto& c) { return !c.first.empty(); });
  if (titled) add_line([&](std::size_t i) -> const std::string& { return columns_[i].first; });
  for (const std::vector<std::string>& row : rows_)
    add_line([&](std::size_t i) -> const std::string& { return row[i]; });
  return result;
}

}  // namespace heapcore
