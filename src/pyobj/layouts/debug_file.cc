// The layout of the exact build, from its debug file or the DWARF it kept, by the same reader that makes the tables.
#include <cstring>
#include <vector>

#include "coreparse/dwarf_layout.h"
#include "pyobj/layout_entries.h"

namespace heapcore {
std::optional<PyLayout> layout_of_python_debug_file(const std::string& path, const std::string& build_id_hex) {
  std::vector<std::string_view> types;
  for (const LayoutEntry& entry : layout_entries()) {
    if (entry.field == nullptr) types.emplace_back(entry.structure);
  }
  const std::size_t root = path.rfind("/.build-id/");
  const Result<DwarfLayout> dwarf =
      root == std::string::npos ? DwarfLayout::open(path, types) : DwarfLayout::open(path, types, path.substr(0, root));
  if (!dwarf || dwarf->build_id() != build_id_hex) return std::nullopt;
  PyLayout layout{};
  for (const LayoutEntry& entry : layout_entries()) {
    char* out = reinterpret_cast<char*>(&layout) + entry.offset;
    if (entry.field == nullptr) {
      const std::uint32_t size = dwarf->size_bytes(entry.structure).value_or(0);
      std::memcpy(out, &size, sizeof size);
    } else {
      const Field field = dwarf->field(entry.structure, entry.path);
      std::memcpy(out, &field, sizeof field);
    }
  }
  if (layout.PyTypeObject.size_bytes == 0 || layout.PyInterpreterState.size_bytes == 0) return std::nullopt;
  return layout;
}

const PyLayout* py_table(std::string_view version) {
  for (const PyTable& table : py_tables()) {
    if (version == table.version) return &table.layout;
  }
  return nullptr;
}

// To 3.7 an object of a debug build begins with two more words, so that all structures differ.
void fill_in(PyLayout& layout, const PyLayout& other) {
  if (layout.PyObject.size_bytes != other.PyObject.size_bytes) return;
  for (const LayoutEntry& entry : layout_entries()) {
    if (entry.field != nullptr || size_at(layout, entry.offset) != 0) continue;
    std::memcpy(reinterpret_cast<char*>(&layout) + entry.offset, reinterpret_cast<const char*>(&other) + entry.offset,
                entry.members_bytes);
  }
}

}  // namespace heapcore
