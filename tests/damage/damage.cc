#include "damage.h"

#include <algorithm>
#include <cstring>

namespace heapcore::damage {
namespace {

constexpr std::uint64_t kExtremes[] = {0,
                                       1,
                                       2,
                                       8,
                                       15,
                                       0x21,
                                       0x7f,
                                       0xff,
                                       0xffff,
                                       1 << 20,
                                       1 << 30,
                                       1U << 31,
                                       0xffffffff,
                                       1ULL << 32,
                                       1ULL << 40,
                                       1ULL << 47,
                                       (1ULL << 47) - 8,
                                       1ULL << 63,
                                       (1ULL << 63) - 1,
                                       ~0ULL,
                                       ~0ULL - 1,
                                       ~0ULL - 7,
                                       ~0ULL - 15,
                                       0xdead0000};

std::uint64_t load(std::span<const std::byte> file, const Place& place) {
  std::uint64_t value = 0;
  std::memcpy(&value, file.data() + place.offset, std::min<std::size_t>(place.width_bytes, sizeof value));
  return value;
}

Addr random_address(const Sites& sites, Random& random) {
  if (sites.heap.empty()) return random.next();
  const AddrRange& range = random.one(sites.heap);
  return range.start + align_down(random.below(range.size_bytes()), 8);
}

Patch word_patch(const Place& place, std::uint64_t value) {
  Patch patch{place.offset, std::vector<std::byte>(std::min<std::size_t>(place.width_bytes, sizeof value))};
  std::memcpy(patch.bytes.data(), &value, patch.bytes.size());
  return patch;
}

std::vector<std::byte> noise(std::size_t bytes, Random& random) {
  std::vector<std::byte> out(bytes);
  for (std::size_t i = 0; i + 8 <= bytes; i += 8) {
    const std::uint64_t word = random.next();
    std::memcpy(out.data() + i, &word, 8);
  }
  return out;
}

void damage_pages(const Site& site, std::span<const std::byte> file, Random& random, Damage& damage) {
  const Place& place = random.one(site.places);
  damage.where = {place.base, place.base + place.width_bytes};
  const auto bytes_of = [&](const Place& of) {
    const std::span<const std::byte> bytes = file.subspan(of.offset, of.width_bytes);
    return std::vector<std::byte>(bytes.begin(), bytes.end());
  };
  switch (random.below(4)) {
    case 0:
      damage.what = "zeroed";
      damage.patches.push_back({place.offset, std::vector<std::byte>(place.width_bytes)});
      return;
    case 1:
      damage.what = "randomised";
      damage.patches.push_back({place.offset, noise(place.width_bytes, random)});
      return;
    case 2: {
      const Place& other = random.one(site.places);
      damage.what = "swapped";
      damage.patches.push_back({place.offset, bytes_of(other)});
      damage.patches.push_back({other.offset, bytes_of(place)});
      return;
    }
    default:
      damage.what = "missing, and all that follows";
      damage.file_bytes = place.offset;
      return;
  }
}

}  // namespace

std::uint64_t odd_value(const Sites& sites, const Site& site, const Place& place, std::uint64_t value, Random& random) {
  constexpr std::int64_t kSteps[] = {-4096, -16, -8, -1, 1, 8, 16, 4096};
  switch (random.below(9)) {
    case 0:
    case 1:
      return random.one(kExtremes);
    case 2:
      return value ^ (std::uint64_t{1} << random.below(8 * std::min(place.width_bytes, 8U)));
    case 3:
      return value + static_cast<std::uint64_t>(random.one(kSteps));
    case 4:
      return random.next();
    case 5:  // a chain that bites itself
      return random.below(2) == 0 ? place.base : place.base + random.below(64);
    case 6:  // a chain that leads into another of its kind
      return random.one(site.places).base;
    case 7:
      return sites.objects.empty() ? random_address(sites, random) : random.one(sites.objects);
    default:
      return random_address(sites, random);
  }
}

Damage choose_damage(const Sites& sites, std::span<const std::byte> file, Random& random) {
  Damage damage;
  do {
    damage.group = random.one(kGroups);
  } while (sites.of(damage.group).empty());
  const Site& site = random.one(sites.of(damage.group));
  damage.site = site.name;
  if (damage.group == Group::kPages) {
    damage_pages(site, file, random, damage);
    return damage;
  }
  const Place& place = random.one(site.places);
  const std::uint64_t value = load(file, place);
  std::uint64_t odd = value;
  // What the field has already is no damage.
  for (int tries = 0; odd == value && tries < 8; ++tries) {
    odd = random.below(8) == 0 ? load(file, random.one(site.places)) : odd_value(sites, site, place, value, random);
    if (place.width_bytes < 8) odd &= (std::uint64_t{1} << 8 * place.width_bytes) - 1;
  }
  damage.patches.push_back(word_patch(place, odd));
  if (place.base != 0) damage.where = {place.base, place.base + 8};
  char text[64];
  std::snprintf(text, sizeof text, "%#lx to %#lx", static_cast<unsigned long>(value), static_cast<unsigned long>(odd));
  damage.what = text;
  return damage;
}

void apply(const Damage& damage, std::span<std::byte> file) {
  for (const Patch& patch : damage.patches)
    std::copy(patch.bytes.begin(), patch.bytes.end(), file.begin() + patch.offset);
}

void undo(const Damage& damage, std::span<const std::byte> sound, std::span<std::byte> file) {
  for (const Patch& patch : damage.patches) {
    const std::span<const std::byte> was = sound.subspan(patch.offset, patch.bytes.size());
    std::copy(was.begin(), was.end(), file.begin() + patch.offset);
  }
}

}  // namespace heapcore::damage
