// Where the fields of CPython's structures lie, by version.
//
// The struct is declared from layouts/fields.def, member for member; the tables are made by tools/gen_layouts from the
// DWARF of real builds (see docs/layouts.md). Which table holds for which interpreter is for py_traits to say.
#pragma once

#include <cstdint>
#include <span>

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

}  // namespace heapcore
