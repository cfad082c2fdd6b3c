// Values as Python's repr() writes them: numbers, text, bytes. Plain functions of plain values; they know no target.
//
// Text keeps what can be printed and escapes the rest: C0 and C1 controls, the no-break space, the soft hyphen, lone
// surrogates. (repr() itself asks the Unicode database of its version.)
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace heapcore {

// An integer by its digits of 30 bits, the least significant first (Include/cpython/longintrepr.h). Takes time
// quadratic in their number.
std::string int_literal(std::span<const std::uint32_t> digits, bool negative);

// The shortest decimal that reads back as the same number: 0.1, 1e+16, inf.
std::string float_literal(double value);
// With as few digits as repr() of a complex's part: no ".0" at its end.
std::string complex_literal(double real, double imaginary);

// Code points as a str literal.
class StrLiteral {
 public:
  // `ascii_only`: escape all that is not ASCII, as 2.7 does. REQUIRES: every code point is first see()n, then open()ed,
  // add()ed and close()d.
  explicit StrLiteral(bool ascii_only) : ascii_only_(ascii_only) {}

  // Before the text: which quotes it holds decides which enclose it.
  void see(std::uint32_t code_point) {
    single_ = single_ || code_point == '\'';
    double_ = double_ || code_point == '"';
  }
  void open(std::string& out) const { out += quote(); }
  void add(std::uint32_t code_point, std::string& out) const;
  void close(std::string& out) const { out += quote(); }

 private:
  char quote() const { return single_ && !double_ ? '"' : '\''; }

  bool ascii_only_;
  bool single_ = false;
  bool double_ = false;
};

// '...', without a prefix.
std::string bytes_literal(std::span<const std::byte> bytes);

// One code point as UTF-8; surrogates and what is beyond Unicode come out as U+FFFD.
void append_utf8(std::string& out, std::uint32_t code_point);

}  // namespace heapcore
