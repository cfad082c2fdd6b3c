// What containers hold, in the order in which Python would go through it: the addresses of the objects, not more.
//
// Each call reads at most `most` items and is bounded whatever the target says of itself; `sound` is false where what
// it says cannot be, and then `items` are those that were read before.
#pragma once

#include <cstdint>
#include <vector>

#include "coreparse/address_space.h"
#include "pyobj/py_traits.h"
#include "pyobj/types.h"

namespace heapcore {

struct Item {
  Addr key = 0;  // 0 in sequences and sets
  Addr value = 0;
};

struct Items {
  std::vector<Item> items;
  std::uint64_t length = 0;  // as the container says
  bool sound = true;
};

class ContainerReader {
 public:
  ContainerReader(Reader& reader, const PyTraits& traits, std::uint64_t most)
      : reader_(reader), traits_(traits), layout_(*traits.layout), most_(most) {}

  // `room_bytes`: how many there are from the tuple's address to the end of its block.
  Items tuple(Addr address, std::uint64_t room_bytes = ~std::uint64_t{0});
  Items list(Addr address);
  Items set(Addr address);
  Items deque(Addr address);
  // dict in every form: combined, split (of instances), of str keys, general; 2.7's.
  Items dict(Addr address);
  // In the order of its own list.
  Items ordered_dict(Addr address);

  // Values kept for an instance without a dict, under the keys of its type. `values`: a PyDictValues.
  Items inline_values(Addr values, Addr keys);

  // Do the indices of a table of keys (3.x) lead to entries of its own?
  bool indices_are_sound(Addr keys);

  // Does this dict share its keys with others, as those of instances do?
  bool is_split(Addr dict);

 private:
  Items pointers(Addr first, std::uint64_t count, std::uint64_t room);
  Items entry_table(Addr address);
  Items combined(Addr keys_address);
  std::vector<std::uint64_t> insertion_order(Addr values, std::uint64_t entries);
  std::uint64_t word(Addr base, const Field& field);

  Reader& reader_;
  const PyTraits& traits_;
  const PyLayout& layout_;
  std::uint64_t most_;
};

}  // namespace heapcore
