#include "pyobj/layout_entries.h"

#include <type_traits>
#include <vector>

namespace heapcore {
namespace {

struct Line {
  const char* structure;  // null: a field
  const char* field;
  const char* path;
};

constexpr Line kLines[] = {
#define HC_STRUCT(tag) {#tag, nullptr, nullptr},
#define HC_FIELD(name) {nullptr, #name, #name},
#define HC_FIELD_AT(name, path) {nullptr, #name, path},
#define HC_END(tag)
#include "pyobj/layouts/fields.def"
#undef HC_STRUCT
#undef HC_FIELD
#undef HC_FIELD_AT
#undef HC_END
};

constexpr std::size_t bytes_of(const Line& line) {
  return line.structure != nullptr ? sizeof(std::uint32_t) : sizeof(Field);
}

constexpr std::size_t bytes_of_all() {
  std::size_t sum = 0;
  for (const Line& line : kLines) sum += bytes_of(line);
  return sum;
}

// PyLayout is nothing but a size and Fields for each structure, one behind the other.
static_assert(std::is_trivially_copyable_v<PyLayout>);
static_assert(sizeof(PyLayout) == bytes_of_all());

std::vector<LayoutEntry> make_entries() {
  std::vector<LayoutEntry> entries;
  std::size_t offset = 0;
  std::size_t structure = 0;
  for (const Line& line : kLines) {
    if (line.structure != nullptr) {
      structure = entries.size();
      entries.push_back({line.structure, nullptr, nullptr, offset, offset, 0});
    } else {
      entries.push_back({entries[structure].structure, line.field, line.path, offset, entries[structure].offset, 0});
    }
    offset += bytes_of(line);
    entries[structure].members_bytes = offset - entries[structure].offset;
  }
  return entries;
}

}  // namespace

std::span<const LayoutEntry> layout_entries() {
  static const std::vector<LayoutEntry> entries = make_entries();
  return entries;
}

}  // namespace heapcore
