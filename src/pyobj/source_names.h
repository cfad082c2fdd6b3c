// Which strings are names out of the program's source rather than data.
#pragma once

#include "coreparse/address_space.h"
#include "pyobj/py_traits.h"

namespace heapcore {

// Whether the str at `address` is interned and an identifier, as the names of attributes and variables are.
// REQUIRES: an object is there.
bool is_source_name(Reader& reader, const PyTraits& traits, Addr address);

}  // namespace heapcore
