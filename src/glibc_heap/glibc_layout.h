// Where the fields of glibc malloc's structures lie, by version.
//
// GlibcLayout has one member per structure of layouts/fields.def, named as upstream names the type, each with its size
// and a Field per line. The tables (layouts/*.inc, made by tools/gen_layouts from DWARF) are aggregate initialisers in
// the order of fields.def. How a version *behaves* is not said here: see glibc_traits.h.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "coreparse/layout.h"

namespace heapcore {

// NOLINTBEGIN(readability-identifier-naming): upstream's names.
struct GlibcLayout {
#define HC_STRUCT(tag)            \
  struct tag##_layout {           \
    std::uint32_t size_bytes = 0; \
    bool operator==(const tag##_layout&) const = default;
#define HC_FIELD(name) Field name;
#define HC_FIELD_AT(name, path) Field name;
#define HC_END(tag) \
  }                 \
  tag;
#include "glibc_heap/layouts/fields.def"
#undef HC_STRUCT
#undef HC_FIELD
#undef HC_FIELD_AT
#undef HC_END
};
// NOLINTEND(readability-identifier-naming)

struct GlibcTable {
  const char* version = "";  // "2.36"
  GlibcLayout layout;
};

// Oldest first.
std::span<const GlibcTable> glibc_tables();
// The table of exactly this version; null if there is none.
const GlibcTable* glibc_table(std::string_view version);

// The layout that the debug file of the build with this build-id (in hexadecimal) says; nothing if it is another's
// file, cannot be read, or does not know struct malloc_state.
std::optional<GlibcLayout> layout_of_debug_file(const std::string& path, const std::string& build_id_hex);

}  // namespace heapcore
