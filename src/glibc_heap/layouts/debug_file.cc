// The layout of the exact build, from its debug file, by the same DWARF reader that makes the tables.
#include <array>

#include "coreparse/dwarf_layout.h"
#include "glibc_heap/glibc_layout.h"

namespace heapcore {
namespace {

constexpr auto kTypes = std::to_array<std::string_view>({
#define HC_STRUCT(tag) #tag,
#define HC_FIELD(name)
#define HC_FIELD_AT(name, path)
#define HC_END(tag)
#include "glibc_heap/layouts/fields.def"
#undef HC_STRUCT
#undef HC_FIELD
#undef HC_FIELD_AT
#undef HC_END
});

}  // namespace

std::optional<GlibcLayout> layout_of_debug_file(const std::string& path, const std::string& build_id_hex) {
  const std::string root = path.substr(0, path.rfind("/.build-id/"));
  const Result<DwarfLayout> dwarf = DwarfLayout::open(path, kTypes, root, "malloc.c");
  if (!dwarf || dwarf->build_id() != build_id_hex) return std::nullopt;
  GlibcLayout layout;
#define HC_STRUCT(tag)                      \
  {                                         \
    constexpr std::string_view kTag = #tag; \
    auto& out = layout.tag;                 \
    out.size_bytes = dwarf->size_bytes(kTag).value_or(0);
#define HC_FIELD(name) out.name = dwarf->field(kTag, #name);
#define HC_FIELD_AT(name, path) out.name = dwarf->field(kTag, path);
#define HC_END(tag) }
#include "glibc_heap/layouts/fields.def"
#undef HC_STRUCT
#undef HC_FIELD
#undef HC_FIELD_AT
#undef HC_END
  if (layout.malloc_state.size_bytes == 0) return std::nullopt;
  return layout;
}

}  // namespace heapcore
