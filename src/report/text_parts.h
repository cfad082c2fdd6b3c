// What the renderers of text share. Private to report.
#pragma once

#include <fmt/format.h>

#include <string>

#include "report/answers.h"
#include "report/format.h"

namespace heapcore {

inline std::string heading(const std::string& text, const TextStyle& style) {
  return style.color ? "\n\x1b[1m" + text + "\x1b[0m\n" : "\n" + text + "\n";
}

// "12,345 (1.2 MiB)", or "-" of nothing.
template <typename Counted>
std::string amount(const Counted& value) {
  if (value.count == 0) return "-";
  return fmt::format("{} ({})", count_text(value.count), bytes_text(value.bytes));
}

// malloc in three lines, CPython's allocator in one.
std::string malloc_line(const Heap& heap);
std::string obmalloc_line(const ObmallocUse& use);

}  // namespace heapcore
