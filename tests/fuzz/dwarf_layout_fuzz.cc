// Any bytes as an ELF file with DWARF that says where fields lie.
#include <string_view>
#include <vector>

#include "coreparse/dwarf_layout.h"
#include "target.h"

using namespace heapcore;

HEAPCORE_FUZZ_TARGET(dwarf_layout, const fuzz::Bytes input) {
  static constexpr std::string_view kTypes[] = {"outer", "inner", "node", "bits", "PyObject", "malloc_state"};
  const fuzz::ScratchFile file(input);
  const Result<DwarfLayout> layout = DwarfLayout::open(file.path(), kTypes, "/nonexistent");
  if (!layout) return;
  for (const std::string_view type : kTypes) {
    static_cast<void>(layout->size_bytes(type));
    for (const char* path : {"first", "next", "inner.a", "anonymous_b", "flags", "missing|rows", "ob_type", "bins"})
      static_cast<void>(layout->field(type, path));
  }
}
