#include "pyobj/traverse_code.h"

#include <algorithm>

namespace heapcore {
namespace {

constexpr std::uint64_t kCodeBytes = 128;  // both are done within the first 60

// mov -0x18(%reg),%reg: where the dict of a managed one lies.
bool loads_dict(std::span<const std::byte> code) {
  const auto rex = std::to_integer<unsigned>(code[0]);
  const auto mod_rm = std::to_integer<unsigned>(code[2]);
  return (rex & 0xf8) == 0x48 && code[1] == std::byte{0x8b} && (mod_rm & 0xc0) == 0x40 && code[3] == std::byte{0xe8};
}

// test $4,%al or test $4,%reg: Py_TPFLAGS_INLINE_VALUES.
bool tests_inline_values(std::span<const std::byte> code) {
  const auto mod_rm = std::to_integer<unsigned>(code[1]);
  return (code[0] == std::byte{0xa8} && mod_rm == 4) ||
         (code[0] == std::byte{0xf6} && (mod_rm & 0xf8) == 0xc0 && code[2] == std::byte{4});
}

}  // namespace

std::optional<bool> visits_managed_dict_first(const Snapshot& snapshot, const Module& interpreter) {
  const auto function = interpreter.symbol("PyObject_VisitManagedDict", snapshot.space);
  if (!function) return std::nullopt;
  Reader reader(snapshot.space);
  std::span<const std::byte> code = reader.span_to_end(function->address);
  code = code.first(std::min<std::size_t>(code.size(), kCodeBytes));
  for (; code.size() >= 4; code = code.subspan(1)) {
    if (loads_dict(code)) return true;
    if (tests_inline_values(code)) return false;
  }
  return std::nullopt;
}

}  // namespace heapcore
