// One damage to a sound core: a field set to what it cannot be, a link led back to where it came from, a page lost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "random.h"
#include "sites.h"

namespace heapcore::damage {

struct Patch {
  std::uint64_t offset = 0;  // in the file
  std::vector<std::byte> bytes;
};

struct Damage {
  Group group = Group::kHeaders;
  std::string site;
  std::string what;
  AddrRange where;  // in the target, the structure's beginning included; empty of what is in no memory
  std::vector<Patch> patches;
  std::optional<std::uint64_t> file_bytes;  // where the file is cut off
};

// What a word may become. `place` is one of the site's.
std::uint64_t odd_value(const Sites& sites, const Site& site, const Place& place, std::uint64_t value, Random& random);

// REQUIRES: the sites are of this file.
Damage choose_damage(const Sites& sites, std::span<const std::byte> file, Random& random);

void apply(const Damage& damage, std::span<std::byte> file);
void undo(const Damage& damage, std::span<const std::byte> sound, std::span<std::byte> file);

}  // namespace heapcore::damage
