// Whether what lies at one address in two snapshots is one value: an allocator gives the address of a freed object to
// the next of its size, which often is of the same type.
#pragma once

#include <cstdint>

#include "pyobj/objects.h"
#include "pyobj/py_traits.h"

namespace heapcore {

enum class ValueMatch : std::uint8_t {
  kEqual,
  kDifferent,  // of what cannot change: so they are two objects
  kUntold,     // it can change, or what it is made of has to be compared
};

// Of two objects of one type at the address of `object`. Numbers, text and bytes are compared by value, tuples by the
// addresses of their items; of what is long, the beginning.
ValueMatch match_values(const ObjectView& object, Kind kind, const PyTraits& traits, Reader& older, Reader& newer);

}  // namespace heapcore
