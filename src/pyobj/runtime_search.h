// Finding the runtime by its structure, for snapshots that hold neither the interpreter's symbols nor its constants: a
// core from another machine, whose files are not here.
//
// Looked through are the variables of modules (.data and .bss) and nothing else, at most kMaxSearchedBytes of a
// mapping: a few MB in all. What is found has been verified by its links: `type` is its own type and its base is
// `object`; an interpreter's thread points back and its dicts are dicts; the collector's rings close through objects.
//
// Does not: know symbols (runtime.cc looks for those first), nor decide which version it is.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "coreparse/snapshot.h"
#include "pyobj/py_traits.h"

namespace heapcore {

inline constexpr std::uint64_t kMaxSearchedBytes = std::uint64_t{64} << 20;

// `type` by its shape, and the module whose variable it is.
struct TypeAnchor {
  Addr type_type = 0;
  Module module;  // a nameless one with the mapping's range where the snapshot names no module there
};

// What a file is called after: "python3.11" or "libpython3.11.so.1.0" -> 3.11, patch unknown.
std::optional<PyVersion> version_in_name(std::string_view name);

class RuntimeSearch {
 public:
  explicit RuntimeSearch(const Snapshot& snapshot) : snapshot_(snapshot), reader_(snapshot.space) {}

  // In modules called after Python first, then in the main program, then anywhere.
  std::optional<TypeAnchor> find_type_type();

  // Whether all variables of all modules are in the snapshot, so that what was not found is not there.
  bool saw_everything() const;

  // The variable that heads the list of interpreters. `verify` says whether an interpreter's state is at an address.
  // Where the list's variable is a member of _PyRuntime, the main interpreter's is looked at too.
  std::optional<Addr> find_interpreters_head(const Module& module, const PyTraits& traits, Addr type_type,
                                             const std::function<bool(Addr)>& verify);

  // The collector's generations where they are static variables (to 3.6).
  std::optional<Addr> find_generations(const Module& module, const PyTraits& traits, Addr type_type);

  // _PyRuntime of 3.13+, which begins with _Py_DebugOffsets and its cookie.
  std::optional<Addr> find_debug_offsets(const Module& module);

 private:
  struct Area {
    AddrRange range;
    const Mapping* mapping = nullptr;
    const Module* module = nullptr;
  };

  std::vector<Area> all_areas() const;
  std::vector<AddrRange> variables_of(const Module& module) const;
  bool is_type_type(Addr address, const PyLayout& layout);
  bool is_dict(Addr address, const PyLayout& layout, Addr type_type);
  bool has_dicts(Addr interpreter, const PyLayout& layout, Addr type_type);
  std::size_t interpreters_from(Addr first, const PyLayout& layout, Addr must_meet,
                                const std::function<bool(Addr)>& verify);
  bool is_generations(Addr address, const PyTraits& traits, Addr type_type);

  const Snapshot& snapshot_;
  Reader reader_;
};

// "xdebugpy", with which _Py_DebugOffsets begins (Include/internal/pycore_debug_offsets.h, 3.13).
inline constexpr std::uint64_t kDebugOffsetsCookie = 0x7970677562656478;

}  // namespace heapcore
