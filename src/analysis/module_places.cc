#include "analysis/module_places.h"

#include <algorithm>

namespace heapcore {

ModulePlaces::ModulePlaces(const Snapshot& snapshot) {
  for (const Mapping& mapping : snapshot.mappings) {
    const Module* module = mapping.shared ? nullptr : snapshot.owner_of(mapping);
    if (module == nullptr) continue;
    Addr end = mapping.end;
    // What follows .bss may be in one mapping with it.
    if (mapping.path.empty() && module->image_end > mapping.start) end = std::min(end, module->image_end);
    places_.push_back({{mapping.start, end},
                       module,
                       mapping.executable,
                       module->section(".text").value_or(AddrRange{}),
                       mapping.writable,
                       !mapping.path.empty()});
  }
}

const ModulePlace* ModulePlaces::at(Addr address) const {
  const auto after = std::upper_bound(places_.begin(), places_.end(), address,
                                      [](Addr a, const ModulePlace& place) { return a < place.range.start; });
  if (after == places_.begin() || !std::prev(after)->range.contains(address)) return nullptr;
  return &*std::prev(after);
}

}  // namespace heapcore
