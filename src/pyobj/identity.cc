#include "pyobj/identity.h"

#include <algorithm>
#include <cstring>

#include "pyobj/strings.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kMostCompared = 4096;  // bytes; what differs differs early, or nearly always

ValueMatch answer(bool equal) {
  return equal ? ValueMatch::kEqual : ValueMatch::kDifferent;
}

bool equal_at(Reader& older, Reader& newer, Addr before, Addr after, std::uint64_t bytes) {
  const std::span<const std::byte> a = older.span(before, bytes);
  const std::span<const std::byte> b = newer.span(after, bytes);
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

ValueMatch match_text(Addr address, const PyTraits& traits, Reader& older, Reader& newer) {
  const StrData before = read_str(older, traits, address);
  const StrData after = read_str(newer, traits, address);
  if (!before.sound || !after.sound) return ValueMatch::kUntold;
  return answer(before.length == after.length && before.unit_bytes == after.unit_bytes &&
                equal_at(older, newer, before.address, after.address,
                         std::min(before.length, kMostCompared / before.unit_bytes) * before.unit_bytes));
}

// `from`: of the items in the struct; `item_bytes`: of each.
bool same_items(Addr address, std::uint64_t from, std::uint64_t item_bytes, const PyTraits& traits, Reader& older,
                Reader& newer) {
  const Addr length = address + traits.layout->PyVarObject.ob_size.offset;
  std::uint64_t before = 0;
  std::uint64_t after = 0;
  if (!older.try_load(length, before) || !newer.try_load(length, after) || before != after) return false;
  return equal_at(older, newer, address + from, address + from,
                  std::min(before, kMostCompared / item_bytes) * item_bytes);
}

}  // namespace

ValueMatch match_values(const ObjectView& object, Kind kind, const PyTraits& traits, Reader& older, Reader& newer) {
  const PyLayout& layout = *traits.layout;
  const Addr address = object.address;
  const std::uint64_t head = layout.PyObject.size_bytes;
  switch (kind) {
    case Kind::kSmallInt:
    case Kind::kFloat:
    case Kind::kComplex:
      return answer(equal_at(older, newer, address + head, address + head, object.type.basicsize - head));
    case Kind::kInt:  // its length and sign, and the lowest digit
      return answer(equal_at(older, newer, address + head, address + head, 8 + 4));
    case Kind::kBytes:  // of basicsize the last byte is the terminating 0; between the length and the text is the hash
      return answer(same_items(address, object.type.basicsize - 1, 1, traits, older, newer));
    case Kind::kStr:
      return match_text(address, traits, older, newer);
    case Kind::kTuple:
      if (same_items(address, layout.PyTupleObject.ob_item.offset, 8, traits, older, newer)) return ValueMatch::kUntold;
      return ValueMatch::kDifferent;
    default:
      return ValueMatch::kUntold;
  }
}

}  // namespace heapcore
