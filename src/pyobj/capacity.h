// How much room a container has allocated, how much of it is used, and what a fresh copy of it would do without.
//
// Sources: list_resize, dictresize, set_table_resize and PyByteArray_Resize in CPython 2.7 to 3.15. A copy of a list
// has no spare room; one of a dict or set has the smallest table that the interpreter would make for so many entries.
#pragma once

#include <cstdint>
#include <optional>

#include "coreparse/address_space.h"
#include "pyobj/py_traits.h"

namespace heapcore {

struct Capacity {
  std::uint64_t length = 0;       // entries in use
  std::uint64_t room = 0;         // entries that there is room for
  std::uint64_t spare_bytes = 0;  // that a fresh copy would not have
};

// One for each thread. Each gives nothing where what the container says of itself cannot be.
class CapacityReader {
 public:
  CapacityReader(Reader& reader, const PyTraits& traits) : reader_(reader), layout_(*traits.layout), traits_(traits) {}

  std::optional<Capacity> list(Addr address);
  // Nothing for a dict with entries that shares its keys: they are its class's.
  std::optional<Capacity> dict(Addr address);
  std::optional<Capacity> set(Addr address);
  std::optional<Capacity> byte_array(Addr address);

 private:
  std::optional<Capacity> dict_of_2(Addr address);
  std::optional<std::uint64_t> word(Addr base, const Field& field);

  Reader& reader_;
  const PyLayout& layout_;
  const PyTraits& traits_;
};

}  // namespace heapcore
