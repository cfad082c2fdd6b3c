// Where a field lies in a structure of the target.
//
// A room lists the structures and fields it reads in its `layouts/fields.def`; the same list declares the room's Layout
// struct, tells tools/gen_layouts what to look up in DWARF, and orders the generated tables. Adding a field is one line
// there.
//
// fields.def uses four macros, which the includer defines:
//   HC_STRUCT(tag)         begins a structure; `tag` is upstream's own name of the type
//   HC_FIELD(name)         a member of it
//   HC_FIELD_AT(name, path) a member reached by a path ("interpreters.head"), kept under `name`; of several paths,
//                          parted by |, the first that exists
//   HC_END(tag)            ends it
#pragma once

#include <cstdint>

namespace heapcore {

// Invariant: width 0 means that the structure has no such field; then offset is 0 and must not be used.
struct Field {
  std::uint32_t offset = 0;       // in bytes from the start of the structure
  std::uint32_t width_bytes = 0;  // of the whole field; an array's is that of all its elements

  constexpr bool present() const { return width_bytes != 0; }
  constexpr bool operator==(const Field&) const = default;
};

}  // namespace heapcore
