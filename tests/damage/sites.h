// Where everything lies in a sound core that is worth damaging: each field of the file's headers and notes, of the
// allocators' structures, of the interpreter's, of each kind of object, of the blocks that objects keep their contents
// in. Found by heapcore itself in the undamaged core, so that a damage of a known meaning can be done in the file.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "analysis/process.h"

namespace heapcore::damage {

struct Place {
  std::uint64_t offset = 0;  // in the file
  Addr base = 0;             // of the structure that the field is in; 0 of a header
  std::uint32_t width_bytes = 0;
};

// What a damage can be done to; each with the same share of the mutants that its group has.
struct Site {
  std::string name;           // "PyDictObject.ma_used"
  std::vector<Place> places;  // some of all there are, spread over the target
};

enum class Group : std::uint8_t {
  kHeaders,
  kModules,
  kMalloc,
  kObmalloc,
  kRuntime,
  kTypes,
  kObjects,
  kContents,
  kPages
};
inline constexpr Group kGroups[] = {Group::kHeaders,  Group::kModules,  Group::kMalloc,
                                    Group::kObmalloc, Group::kRuntime,  Group::kTypes,
                                    Group::kObjects,  Group::kContents, Group::kPages};
const char* group_name(Group group);

struct Sites {
  std::vector<Site> of_group[std::size(kGroups)];
  std::vector<AddrRange> heap;  // of addresses that lie in written, present memory
  std::vector<Addr> objects;    // some, spread over all there are

  const std::vector<Site>& of(Group group) const { return of_group[static_cast<std::size_t>(group)]; }
};

// REQUIRES: `process` was opened from `file`, uncompressed: its first storage.
Sites find_sites(std::span<const std::byte> file, Process& process);

}  // namespace heapcore::damage
