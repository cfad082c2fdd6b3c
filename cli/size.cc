#include "size.h"

#include <cctype>
#include <charconv>
#include <cmath>

namespace heapcore {

std::optional<std::uint64_t> parse_size(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc() || !(number >= 0)) return std::nullopt;
  std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  int power = 0;
  if (!unit.empty() && unit != "B") {
    const std::size_t letter = std::string_view("KMGT").find(static_cast<char>(std::toupper(unit.front())));
    if (letter == std::string_view::npos) return std::nullopt;
    unit.remove_prefix(1);
    if (!unit.empty() && unit != "B" && unit != "iB") return std::nullopt;
    power = static_cast<int>(letter) + 1;
  }
  const double bytes = std::ldexp(number, 10 * power);
  if (bytes >= std::ldexp(1.0, 63)) return std::nullopt;
  return static_cast<std::uint64_t>(bytes);
}

}  // namespace heapcore
