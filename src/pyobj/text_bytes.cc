#include "pyobj/text_bytes.h"

#include "pyobj/strings.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kMostCharacters = std::uint64_t{1} << 48;

}  // namespace

TextBytes text_bytes(Reader& reader, const PyTraits& traits, Kind kind, Addr address) {
  const PyLayout& layout = *traits.layout;
  TextBytes text;
  Addr data = 0;
  std::uint64_t unit_bytes = 1;
  if (kind == Kind::kStr) {
    const StrData str = read_str(reader, traits, address);
    if (!str.sound) return text;
    data = str.address;
    text.length = str.length;
    unit_bytes = str.unit_bytes;
  } else if (kind == Kind::kUnicode) {
    unit_bytes = traits.unicode_unit_bytes;
    if (!reader.try_load(address + layout.PyUnicodeObject.length.offset, text.length) ||
        !reader.try_load(address + layout.PyUnicodeObject.str.offset, data))
      return text;
  } else {
    const bool of_2 = traits.str_rep == StrRep::kTwoTypes;
    data = address + (of_2 ? layout.PyStringObject.ob_sval.offset : layout.PyBytesObject.ob_sval.offset);
    if (!reader.try_load(address + layout.PyVarObject.ob_size.offset, text.length)) return text;
  }
  if (text.length > kMostCharacters) return text;
  text.address = data;
  text.bytes = reader.span(data, text.length * unit_bytes);
  text.sound = text.length == 0 || !text.bytes.empty();
  return text;
}

}  // namespace heapcore
