// The layout of the exact build, from its debug file or the DWARF it kept, by the same reader that makes the tables.
#include <array>

#include "coreparse/dwarf_layout.h"
#include "pyobj/py_layout.h"

namespace heapcore {
namespace {

constexpr auto kTypes = std::to_array<std::string_view>({
#define HC_STRUCT(tag) #tag,
#define HC_FIELD(name)
#define HC_FIELD_AT(name, path)
#define HC_END(tag)
#include "pyobj/layouts/fields.def"
#undef HC_STRUCT
#undef HC_FIELD
#undef HC_FIELD_AT
#undef HC_END
});

}  // namespace

std::optional<PyLayout> layout_of_python_debug_file(const std::string& path, const std::string& build_id_hex) {
  const std::size_t root = path.rfind("/.build-id/");
  const Result<DwarfLayout> dwarf = root == std::string::npos ? DwarfLayout::open(path, kTypes)
                                                              : DwarfLayout::open(path, kTypes, path.substr(0, root));
  if (!dwarf || dwarf->build_id() != build_id_hex) return std::nullopt;
  PyLayout layout{};
#define HC_STRUCT(tag)                      \
  {                                         \
    constexpr std::string_view kTag = #tag; \
    auto& out = layout.tag;                 \
    out.size_bytes = dwarf->size_bytes(kTag).value_or(0);
#define HC_FIELD(name) out.name = dwarf->field(kTag, #name);
#define HC_FIELD_AT(name, path) out.name = dwarf->field(kTag, path);
#define HC_END(tag) }
#include "pyobj/layouts/fields.def"
#undef HC_STRUCT
#undef HC_FIELD
#undef HC_FIELD_AT
#undef HC_END
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
#define HC_STRUCT(tag) \
  if (layout.tag.size_bytes == 0) layout.tag = other.tag;
#define HC_FIELD(name)
#define HC_FIELD_AT(name, path)
#define HC_END(tag)
#include "pyobj/layouts/fields.def"
#undef HC_STRUCT
#undef HC_FIELD
#undef HC_FIELD_AT
#undef HC_END
}

}  // namespace heapcore
