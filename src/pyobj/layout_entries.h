// layouts/fields.def as a list, for what is done to each structure and field alike.
//
// One statement for each would do the same, but the sanitizers' copies of such a function take a compiler gigabytes.
#pragma once

#include <cstring>
#include <span>

#include "pyobj/py_layout.h"

namespace heapcore {

struct LayoutEntry {
  const char* structure = "";
  const char* field = nullptr;    // null: the structure's size
  const char* path = nullptr;     // of the field, for DWARF
  std::size_t offset = 0;         // in PyLayout: of a Field, or of the size
  std::size_t size_offset = 0;    // of the structure's size
  std::size_t members_bytes = 0;  // of a size: what PyLayout has of the structure, the size included
};

// In fields.def's order, each structure before its fields.
std::span<const LayoutEntry> layout_entries();

inline std::uint32_t size_at(const PyLayout& layout, std::size_t offset) {
  std::uint32_t size = 0;
  std::memcpy(&size, reinterpret_cast<const char*>(&layout) + offset, sizeof size);
  return size;
}
inline Field field_at(const PyLayout& layout, std::size_t offset) {
  Field field;
  std::memcpy(&field, reinterpret_cast<const char*>(&layout) + offset, sizeof field);
  return field;
}

}  // namespace heapcore
