// Reads where fields lie from the DWARF of one ELF file: a shared library that kept it, or a separate debug file.
//
// The same reader makes the committed tables (tools/gen_layouts) and, when the debug file of the exact build is at
// hand, reads its layout at run time. One pass over all units indexes the wanted names; members are looked up when
// asked for.
//
// Invariants: a complete definition is always preferred to a declaration, and of several the first in the file is
// taken, so answers do not depend on anything but the file. Damaged or hostile DWARF yields absent fields, never a
// crash or a hang: depth, visits and widths are bounded here, and nothing is followed that libdw does not bound. It
// does not look for debug files, except for the common file that dwz split off (.gnu_debugaltlink), and that one only
// on this machine's disk and only if its build-id is the one asked for. It reads no split DWARF (.dwo) and no ET_REL
// files.
//
// Sources: the DWARF 5 standard, 5.7 (structures and members), 5.5 (arrays), 7.5.6 (forms).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "coreparse/layout.h"
#include "support/result.h"

namespace heapcore {

class DwarfLayout {
 public:
  // Indexes `types` in the DWARF of the ELF file at `path`. A type that the file does not define is not an error.
  // A name is tried as a typedef, then as the tag of a struct or union, then both with a leading underscore.
  // `debug_root` is where debug files by build-id lie, for the file dwz split off. If `unit` is given ("malloc.c"),
  // only units of that name are read, which takes a tenth of the time; all are if those define none of the types.
  static Result<DwarfLayout> open(const std::string& path, std::span<const std::string_view> types,
                                  const std::string& debug_root = "/usr/lib/debug", std::string_view unit = {});

  DwarfLayout(DwarfLayout&&) noexcept;
  DwarfLayout& operator=(DwarfLayout&&) noexcept;
  ~DwarfLayout();

  // The size of one of the `types` given to open(); nothing if the file has no complete definition of it.
  std::optional<std::uint32_t> size_bytes(std::string_view type) const;

  // Where the member at `path` lies in `type`. Dots lead through nested structures and unions ("gc.gc_next"), members
  // of anonymous ones are found as if they were the outer one's own, and "a|b" takes the first path that exists. A
  // bit-field is given as the storage unit of its declared type that holds it; a flexible array has the width of one
  // element. Absent: the type or the member is not there.
  Field field(std::string_view type, std::string_view path) const;

  // In hexadecimal; empty if the file has none.
  const std::string& build_id() const;

 private:
  struct Impl;
  explicit DwarfLayout(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace heapcore
