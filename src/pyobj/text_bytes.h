// The contents of strings as they lie in memory, for comparing them without decoding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "coreparse/address_space.h"
#include "pyobj/kinds.h"
#include "pyobj/py_traits.h"

namespace heapcore {

struct TextBytes {
  Addr address = 0;
  std::span<const std::byte> bytes;
  std::uint64_t length = 0;  // in characters
  bool sound = false;        // all of it is there
};

// REQUIRES: an object of this kind (kStr, kUnicode or kBytes) is at `address`.
TextBytes text_bytes(Reader& reader, const PyTraits& traits, Kind kind, Addr address);

}  // namespace heapcore
