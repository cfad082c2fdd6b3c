// Numbers and text. Part of ValueReader (values.h).
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "pyobj/literals.h"
#include "pyobj/strings.h"
#include "pyobj/values.h"

namespace heapcore {
namespace {

// Digits of 30 bits: 147,000 decimal ones. More would take long to convert, and nobody reads them.
constexpr std::uint64_t kMostDigits = 1 << 14;
constexpr std::uint32_t kDigitMask = (1U << 30) - 1;

}  // namespace

void ValueReader::append_int(std::string& out, const Object& object) {
  if (object.kind == Kind::kFloat) {
    double value = 0;
    reader_.try_load(object.address + layout_.PyFloatObject.ob_fval.offset, value);
    out += float_literal(value);
    return;
  }
  if (object.kind == Kind::kComplex) {
    double parts[2] = {};
    reader_.try_load(object.address + layout_.PyComplexObject.cval.offset, parts);
    out += complex_literal(parts[0], parts[1]);
    return;
  }
  const bool two_ints = layout_.PyIntObject.ob_ival.present();  // 2.7: int and long
  if (two_ints && object.kind != Kind::kInt) {
    const std::int64_t value = number(object.address, layout_.PyIntObject.ob_ival);
    out += object.kind == Kind::kBool ? (value != 0 ? "True" : "False") : std::to_string(value);
    return;
  }
  std::uint64_t count = 0;
  bool negative = false;
  if (traits_.long_rep == LongRep::kLvTag) {
    const std::uint64_t tag = word(object.address, layout_.PyLongObject.lv_tag);
    count = tag >> 3;
    negative = (tag & 3) == 2;
  } else {
    const std::int64_t size = number(object.address, layout_.PyVarObject.ob_size);
    negative = size < 0;
    count = negative ? -static_cast<std::uint64_t>(size) : static_cast<std::uint64_t>(size);
  }
  const Addr digits_at = object.address + layout_.PyLongObject.ob_digit.offset;
  if (!has_room(object.address, digits_at, count, sizeof(std::uint32_t))) {
    damaged(object.address, "an int has more digits than its block has room for");
    out += "<damaged int>";
    return;
  }
  if (count > kMostDigits) {
    const Addr last = digits_at + (count - 1) * 4;
    if (count > std::uint64_t{1} << 40 || !reader_.load<std::uint32_t>(last)) {
      damaged(object.address, "an int has more digits than there is memory");
      out += "<damaged int>";
      return;
    }
    out += fmt::format("<int of {} bits>",
                       (count - 1) * 30 + 64 -
                           static_cast<unsigned>(__builtin_clzll(reader_.load<std::uint32_t>(last).value_or(0) | 1)));
    return;
  }
  std::vector<std::uint32_t> digits(count);
  const auto bytes = std::as_writable_bytes(std::span(digits));
  if (!reader_.read(digits_at, bytes)) {
    damaged(object.address, "an int has more digits than there is memory");
    out += "<damaged int>";
    return;
  }
  for (std::uint32_t& digit : digits) digit &= kDigitMask;
  while (!digits.empty() && digits.back() == 0) digits.pop_back();
  if (object.kind == Kind::kBool) {
    out += digits.empty() ? "False" : "True";
    return;
  }
  out += int_literal(digits, negative);
  if (two_ints) out += 'L';
}

void ValueReader::append_withheld(std::string& out, const char* what, std::uint64_t length, const char* unit) const {
  out += fmt::format("<{} of {} {}{}>", what, length, unit, length == 1 ? "" : "s");
}

// One code point each, but for 2.7's narrow builds, in which two units make those beyond 16 bits.
void ValueReader::append_characters(std::string& out, std::span<const std::byte> bytes, unsigned unit_bytes,
                                    bool ascii_only) {
  const std::size_t units = bytes.size() / unit_bytes;
  const std::size_t shown = std::min<std::uint64_t>(units, most_characters_);
  std::vector<std::uint32_t> text;
  text.reserve(shown);
  for (std::size_t i = 0; i < shown; ++i) {
    std::uint32_t c = 0;
    std::memcpy(&c, bytes.data() + i * unit_bytes, unit_bytes);
    const bool low = c >= 0xdc00 && c < 0xe000;
    if (ascii_only && unit_bytes == 2 && low && !text.empty() && text.back() >= 0xd800 && text.back() < 0xdc00) {
      text.back() = 0x10000 + ((text.back() - 0xd800) << 10) + (c - 0xdc00);
      continue;
    }
    text.push_back(c);
  }
  StrLiteral literal(ascii_only);
  for (const std::uint32_t c : text) literal.see(c);
  literal.open(out);
  for (const std::uint32_t c : text) literal.add(c, out);
  literal.close(out);
  if (shown < units) out += fmt::format("... ({} in all)", units);
}

void ValueReader::append_str(std::string& out, const Object& object) {
  const StrData data = read_str(reader_, traits_, object.address);
  const std::uint64_t before = data.address - object.address;
  const bool compact =
      before == layout_.PyASCIIObject.size_bytes || before == layout_.PyCompactUnicodeObject.size_bytes;
  if (!data.sound || (compact && !has_room(object.address, data.address, data.length, data.unit_bytes))) {
    damaged(object.address, "a str says of itself what cannot be");
    out += "<damaged str>";
  } else if (!options_.contents) {
    append_withheld(out, "str", data.length, "character");
  } else if (data.length == 0) {
    out += "''";
  } else if (const auto bytes = reader_.span(data.address, data.length * data.unit_bytes); !bytes.empty()) {
    append_characters(out, bytes, data.unit_bytes, false);
  } else {
    if (reader_.space().state(data.address) != ByteState::kNotDumped)
      damaged(object.address, "the characters of a str are not there");
    append_withheld(out, "str", data.length, "character");
  }
}

void ValueReader::append_unicode(std::string& out, const Object& object) {
  const std::uint64_t length = word(object.address, layout_.PyUnicodeObject.length);
  if (!options_.contents) return append_withheld(out, "unicode", length, "character");
  const auto unit_bytes = static_cast<unsigned>(traits_.unicode_unit_bytes);
  out += 'u';
  if (length == 0) {
    out += "''";
    return;
  }
  const auto bytes = checked_mul(length, unit_bytes);
  const auto span = reader_.span(word(object.address, layout_.PyUnicodeObject.str), bytes.value_or(~std::uint64_t{0}));
  if (!span.empty()) return append_characters(out, span, unit_bytes, true);
  damaged(object.address, "the characters of a unicode are not there");
  out = out.substr(0, out.size() - 1) + "<damaged unicode>";
}

void ValueReader::append_bytes(std::string& out, const Object& object, const char* prefix) {
  const std::uint64_t length = word(object.address, layout_.PyVarObject.ob_size);
  const bool is_array = object.kind == Kind::kByteArray;
  const char* what = is_array ? "bytearray" : *prefix == '\0' ? "str" : "bytes";
  const auto& fields = layout_.PyByteArrayObject;
  const Field& own =
      layout_.PyBytesObject.ob_sval.present() ? layout_.PyBytesObject.ob_sval : layout_.PyStringObject.ob_sval;
  const Addr data = is_array ? word(object.address, fields.ob_start.present() ? fields.ob_start : fields.ob_bytes)
                             : object.address + own.offset;
  if (is_array ? length > word(object.address, fields.ob_alloc) : !has_room(object.address, data, length, 1)) {
    damaged(object.address, fmt::format("a {} is longer than its block", what));
    out += fmt::format("<damaged {}>", what);
    return;
  }
  if (!options_.contents) return append_withheld(out, what, length, "byte");
  const std::uint64_t shown = std::min(length, most_characters_);
  const std::span<const std::byte> bytes = reader_.span(data, shown);
  if (is_array) out += fmt::format("{}(", short_name(*object.type));
  if (length == 0 || !bytes.empty()) {
    out += prefix + bytes_literal(bytes);
    if (shown < length) out += fmt::format("... ({} in all)", length);
  } else {
    if (reader_.space().state(data) != ByteState::kNotDumped) damaged(object.address, "the bytes are not there");
    append_withheld(out, "bytes", length, "byte");
  }
  if (is_array) out += ')';
}

void ValueReader::append_range(std::string& out, const Object& object) {
  const auto& fields = layout_.rangeobject;
  if (!fields.length.present()) {  // 2.7's xrange: numbers, not objects
    const std::int64_t start = number(object.address, fields.start);
    const std::int64_t step = number(object.address, fields.step);
    const auto stop = static_cast<std::int64_t>(static_cast<std::uint64_t>(start) +
                                                static_cast<std::uint64_t>(step) * word(object.address, fields.len));
    out += start == 0 && step == 1 ? fmt::format("xrange({})", stop)
           : step == 1             ? fmt::format("xrange({}, {})", start, stop)
                                   : fmt::format("xrange({}, {}, {})", start, stop, step);
    return;
  }
  const Addr step = word(object.address, fields.step);
  out += "range(";
  append(out, word(object.address, fields.start));
  out += ", ";
  append(out, word(object.address, fields.stop));
  if (small_int(reader_, traits_, step) != 1U) {
    out += ", ";
    append(out, step);
  }
  out += ')';
}

// datetime's types keep their numbers in bytes, the most significant first (Include/datetime.h).
void ValueReader::append_datetime(std::string& out, const Object& object) {
  const std::string name = short_name(*object.type);
  if (name == "timedelta") {
    const auto& fields = layout_.PyDateTime_Delta;
    out += fmt::format("datetime.timedelta(days={}, seconds={}, microseconds={})", number(object.address, fields.days),
                       number(object.address, fields.seconds), number(object.address, fields.microseconds));
    return;
  }
  const bool has_date = name != "time";
  const bool has_time = name != "date";
  const Field& data = !has_time  ? layout_.PyDateTime_Date.data
                      : has_date ? layout_.PyDateTime_DateTime.data
                                 : layout_.PyDateTime_Time.data;
  const std::size_t size = (has_date ? 4U : 0U) + (has_time ? 6U : 0U);
  const std::span<const std::byte> bytes = reader_.span(object.address + data.offset, size);
  out += "datetime." + name;
  if (bytes.empty() || !data.present()) {
    out += "(?)";
    return;
  }
  const auto at = [&](std::size_t i) { return std::to_integer<unsigned>(bytes[i]); };
  std::vector<unsigned> parts;
  if (has_date) parts = {at(0) << 8 | at(1), at(2), at(3)};
  if (has_time) {
    const std::size_t first = has_date ? 4 : 0;
    const unsigned microseconds = at(first + 3) << 16 | at(first + 4) << 8 | at(first + 5);
    parts.insert(parts.end(), {at(first), at(first + 1)});
    if (microseconds != 0 || at(first + 2) != 0) parts.push_back(at(first + 2));
    if (microseconds != 0) parts.push_back(microseconds);
  }
  out += fmt::format("({}", fmt::join(parts, ", "));
  const Addr tzinfo_at = has_date ? object.address + layout_.PyDateTime_DateTime.tzinfo.offset
                                  : object.address + layout_.PyDateTime_Time.tzinfo.offset;
  const Field& has_tzinfo = has_date ? layout_.PyDateTime_DateTime.hastzinfo : layout_.PyDateTime_Time.hastzinfo;
  if (has_time && word(object.address, has_tzinfo) != 0) {
    out += ", tzinfo=";
    append(out, reader_.load<Addr>(tzinfo_at).value_or(0));
  }
  out += ')';
}

}  // namespace heapcore
