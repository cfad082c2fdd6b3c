#include "pyobj/literals.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <string_view>
#include <vector>

namespace heapcore {
namespace {

constexpr unsigned kDigitBits = 30;
constexpr std::uint32_t kDecimalBase = 1000000000;
constexpr int kDecimalDigits = 9;

// repr() writes an exponent below 1e-4 and from 1e16 on (Python/pystrtod.c, format code 'r').
constexpr int kLeastPlainExponent = -4;
constexpr int kFirstScientificExponent = 16;

// The significant digits without a point, and the decimal exponent of the first.
struct Decimal {
  std::string digits;
  int exponent = 0;
};

Decimal shortest(double magnitude) {
  char buffer[32];
  const auto end = std::to_chars(std::begin(buffer), std::end(buffer), magnitude, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t e = text.find('e');
  Decimal decimal;
  for (const char c : text.substr(0, e)) {
    if (c != '.') decimal.digits += c;
  }
  const std::size_t sign = text[e + 1] == '+' ? 1 : 0;  // from_chars takes no plus
  std::from_chars(text.data() + e + 1 + sign, text.data() + text.size(), decimal.exponent);
  return decimal;
}

std::string number_text(double value, bool with_point) {
  if (std::isnan(value)) return "nan";
  const std::string sign = std::signbit(value) ? "-" : "";
  if (std::isinf(value)) return sign + "inf";
  Decimal decimal = shortest(std::fabs(value));
  std::string& digits = decimal.digits;
  if (decimal.exponent < kLeastPlainExponent || decimal.exponent >= kFirstScientificExponent) {
    if (digits.size() > 1) digits.insert(1, ".");
    return fmt::format("{}{}e{}{:02}", sign, digits, decimal.exponent < 0 ? '-' : '+', std::abs(decimal.exponent));
  }
  const int point = decimal.exponent + 1;  // digits before it
  if (point <= 0) return sign + "0." + std::string(static_cast<std::size_t>(-point), '0') + digits;
  const auto before = static_cast<std::size_t>(point);
  if (digits.size() > before) {
    digits.insert(before, ".");
    return sign + digits;
  }
  digits.append(before - digits.size(), '0');
  return sign + digits + (with_point ? ".0" : "");
}

bool is_surrogate(std::uint32_t c) {
  return c >= 0xd800 && c < 0xe000;
}

bool is_escaped(std::uint32_t c) {
  return c < 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0xad || is_surrogate(c) || c > 0x10ffff;
}

}  // namespace

std::string int_literal(std::span<const std::uint32_t> digits, bool negative) {
  // Horner's rule from the top, in base 10^9: least significant first.
  std::vector<std::uint32_t> decimal;
  for (std::size_t i = digits.size(); i-- > 0;) {
    std::uint64_t carry = digits[i];
    for (std::uint32_t& part : decimal) {
      const std::uint64_t value = (std::uint64_t{part} << kDigitBits) + carry;
      part = static_cast<std::uint32_t>(value % kDecimalBase);
      carry = value / kDecimalBase;
    }
    for (; carry != 0; carry /= kDecimalBase) decimal.push_back(static_cast<std::uint32_t>(carry % kDecimalBase));
  }
  if (decimal.empty()) return "0";
  std::string text = fmt::format("{}{}", negative ? "-" : "", decimal.back());
  for (std::size_t i = decimal.size() - 1; i-- > 0;) text += fmt::format("{:0{}}", decimal[i], kDecimalDigits);
  return text;
}

std::string float_literal(double value) {
  return number_text(value, true);
}

// complex_repr (Objects/complexobject.c): a real part that is +0 is left out, with the parentheses.
std::string complex_literal(double real, double imaginary) {
  const std::string imaginary_text = number_text(imaginary, false);
  if (real == 0.0 && !std::signbit(real)) return imaginary_text + "j";
  const bool signed_already = imaginary_text.front() == '-';
  return fmt::format("({}{}{}j)", number_text(real, false), signed_already ? "" : "+", imaginary_text);
}

void StrLiteral::add(std::uint32_t c, std::string& out) const {
  if (c == static_cast<std::uint32_t>(quote()) || c == '\\') {
    out += '\\';
    out += static_cast<char>(c);
  } else if (c == '\n') {
    out += "\\n";
  } else if (c == '\r') {
    out += "\\r";
  } else if (c == '\t') {
    out += "\\t";
  } else if (is_escaped(c) || (ascii_only_ && c >= 0x80)) {
    out += c < 0x100     ? fmt::format("\\x{:02x}", c)
           : c < 0x10000 ? fmt::format("\\u{:04x}", c)
                         : fmt::format("\\U{:08x}", c);
  } else {
    append_utf8(out, c);
  }
}

std::string bytes_literal(std::span<const std::byte> bytes) {
  StrLiteral literal(true);
  for (const std::byte byte : bytes) literal.see(std::to_integer<std::uint32_t>(byte));
  std::string out;
  literal.open(out);
  for (const std::byte byte : bytes) literal.add(std::to_integer<std::uint32_t>(byte), out);
  literal.close(out);
  return out;
}

void append_utf8(std::string& out, std::uint32_t c) {
  if (c > 0x10ffff || is_surrogate(c)) c = 0xfffd;
  const auto tail = [&](unsigned shift) { out += static_cast<char>(0x80 | (c >> shift & 0x3f)); };
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0 | c >> 6);
    tail(0);
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0 | c >> 12);
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xf0 | c >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

}  // namespace heapcore
