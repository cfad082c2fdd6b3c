// For targets that work on a valid heap: sound cores that are kept open, and inputs that are lists of damages to them.
//
// An input is a byte that chooses the core, and then records of 12 bytes: which site (2 bytes), which of its places
// (2), the value that the field gets (8); little endian. So what libFuzzer changes are fields inside a valid heap. Its
// own mutations mostly change values; LLVMFuzzerCustomMutator() chooses values as the mutation campaign does.
#pragma once

#include <functional>
#include <vector>

#include "damage.h"
#include "target.h"

namespace heapcore::fuzz {

struct HeapTarget {
  std::vector<const char*> cores;                                // under testdata/
  std::function<bool(damage::Group, const std::string&)> wants;  // which sites, by group and name
  // The structures that were damaged, each by its first byte.
  std::function<void(Process&, const std::vector<Addr>&)> run;
};

// Applies the input's damages to the core that it chooses, runs the target, undoes them.
void run_damaged(const HeapTarget& target, Bytes input);

}  // namespace heapcore::fuzz
