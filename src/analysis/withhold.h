// Where the contents of the target's strings lie, so that they can be left out of a core: what of it is to be zeroed
// such that types, sizes, references and both allocators' structures stay as they are.
//
// Found are: the characters of str, unicode, bytes and bytearray objects, in all the forms in which such an object
// keeps them; what both allocators keep free, but for their own links; the arguments and the environment at the start
// of the stack. Kept are the names that answers consist of: interned identifiers, and what types, functions, code
// (files' names too) and modules are called, and the tables of code.
//
// Not found: buffers of C libraries and of the types not named above, copies in live frames, memory that neither
// allocator has, what a freed string left in a block whose new owner does not use all of it. So the core tells far
// less, and not nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "analysis/process.h"
#include "support/addr.h"
#include "support/counts.h"

namespace heapcore {

struct Withheld {
  std::vector<AddrRange> ranges;  // sorted and disjoint
  CountBytes strings;             // whose contents are withheld
  CountBytes names;               // that are kept
  std::uint64_t free_bytes = 0;   // of the allocators
};

// REQUIRES: process.runtime() != nullptr. The pass "decode".
Withheld contents_to_withhold(const Process& process, Progress& progress, Findings& findings);

}  // namespace heapcore
