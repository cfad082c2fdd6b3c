// Where the fields of CPython's structures lie, by version.
//
// The struct is declared from layouts/fields.def, member for member; the tables are made by tools/gen_layouts from the
// DWARF of real builds (see docs/layouts.md). Which table holds for which interpreter is for py_traits to say.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "coreparse/layout.h"

namespace heapcore {

struct PyLayout {
#define HC_STRUCT(tag) \
  struct {             \
    std::uint32_t size_bytes;
#define HC_FIELD(name) Field name;
#define HC_FIELD_AT(name, path) Field name;
#define HC_END(tag) \
  }                 \
  tag;
#include "pyobj/layouts/fields.def"
#undef HC_STRUCT
#undef HC_FIELD
#undef HC_FIELD_AT
#undef HC_END
};

struct PyTable {
  const char* version;  // of the build whose DWARF it was made from
  PyLayout layout;
};

std::span<const PyTable> py_tables();
// The table of this name; null if there is none.
const PyLayout* py_table(std::string_view version);

// The layout that the DWARF of the build with this build-id (in hexadecimal) says: in a separate debug file, or in the
// interpreter's own. Nothing if it is another's file, cannot be read, or does not know CPython's structures.
std::optional<PyLayout> layout_of_python_debug_file(const std::string& path, const std::string& build_id_hex);

// Takes from `other` the structures that `layout` says nothing of.
void fill_in(PyLayout& layout, const PyLayout& other);

}  // namespace heapcore
