#include "analysis/layouts.h"

namespace heapcore {
namespace {

void add_python(const PyRuntime& runtime, std::vector<LayoutRow>& rows) {
  for (const FieldOrigin& origin : describe_layout(runtime.traits, runtime.layout_origin)) {
    rows.push_back({"cpython", origin.structure, origin.field, origin.place, origin.source,
                    origin.place != origin.in_table, origin.in_table});
  }
}

void add_glibc(const Heap& heap, std::vector<LayoutRow>& rows) {
  const std::string source = heap.layout_source == "table" ? "table " + heap.layout_version : heap.layout_source;
  const auto add = [&](const char* structure, const char* field, const Field& place) {
    if (place.present()) rows.push_back({"glibc", structure, field, place, source, false, place});
  };
#define HC_STRUCT(tag)                 \
  {                                    \
    constexpr const char* kTag = #tag; \
    const auto& fields = heap.layout.tag;
#define HC_FIELD(name) add(kTag, #name, fields.name);
#define HC_FIELD_AT(name, path) add(kTag, #name, fields.name);
#define HC_END(tag) }
#include "glibc_heap/layouts/fields.def"
#undef HC_STRUCT
#undef HC_FIELD
#undef HC_FIELD_AT
#undef HC_END
}

}  // namespace

std::vector<LayoutRow> layout_rows(const Process& process) {
  std::vector<LayoutRow> rows;
  if (process.runtime() != nullptr) add_python(*process.runtime(), rows);
  if (process.heap() != nullptr) add_glibc(*process.heap(), rows);
  return rows;
}

}  // namespace heapcore
