// Which module, and what of it, lies at an address: a sorted table of the modules' mappings, for questions that are
// asked of every block.
#pragma once

#include <vector>

#include "coreparse/snapshot.h"

namespace heapcore {

struct ModulePlace {
  AddrRange range;
  const Module* module = nullptr;
  bool executable = false;  // gdb's cores do not say so of code that they leave out
  AddrRange text;           // .text, which does; empty without the file
  bool writable = false;
  bool is_file = false;  // not .bss

  bool is_code(Addr address) const { return executable || text.contains(address); }
};

class ModulePlaces {
 public:
  explicit ModulePlaces(const Snapshot& snapshot);
  // Null where no module's file or variables lie.
  const ModulePlace* at(Addr address) const;

 private:
  std::vector<ModulePlace> places_;  // sorted
};

}  // namespace heapcore
