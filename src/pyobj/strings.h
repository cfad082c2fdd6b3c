// Reading str objects and dict entries by name: what naming types and modules needs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coreparse/address_space.h"
#include "pyobj/py_traits.h"

namespace heapcore {

// Bytes between PyGC_Head's start and the allocation's, for a type with these tp_flags.
std::uint32_t pre_header_bytes(const PyTraits& traits, std::uint64_t tp_flags);

// PyASCIIObject.state (3.11; the same bits to 3.15, but for the first's width):
//   bit  0-1 interned | 2-4 kind (bytes a character) | 5 compact | 6 ascii | 7 ready or statically allocated
struct StrState {
  unsigned kind;
  bool compact;
  bool ascii;
};

StrState unpack_str_state(const PyTraits& traits, std::uint32_t word);

// Where a str keeps its characters. To 3.11 it may keep them as wchar_t alone.
struct StrData {
  Addr address = 0;
  std::uint64_t length = 0;  // in characters
  unsigned unit_bytes = 1;   // of a character
  bool sound = false;
};

// REQUIRES: a str is at `address`, and not of 2.7.
StrData read_str(Reader& reader, const PyTraits& traits, Addr address);

// The text of the str at `address` as UTF-8, of at most max_length code points; nothing if no such str is there.
// Lone surrogates come out as U+FFFD. 2.7's str gives its bytes as they are, and its unicode will do as well.
std::optional<std::string> decode_str(Reader& reader, const PyTraits& traits, Addr address, std::uint64_t max_length);

// The value under a str key of the dict (or dict subclass) at `address`. Looks at the entries in order: for small
// dicts.
std::optional<Addr> dict_get(Reader& reader, const PyTraits& traits, Addr address, std::string_view key);

// Keys and values of the dict (or dict subclass) at `address`, in order; at most a million.
std::vector<std::pair<Addr, Addr>> dict_items(Reader& reader, const PyTraits& traits, Addr address);

// The value of the int at `address`, if it is one of a single digit: 0 to 2^30 - 1.
std::optional<std::uint32_t> small_int(Reader& reader, const PyTraits& traits, Addr address);

// Where a keys table keeps its entries.
struct DictKeys {
  std::uint64_t slots = 0;           // indices, from dk_indices on, of 1, 2, 4 or 8 bytes each
  std::uint64_t entries_offset = 0;  // from the start of the keys object
  std::uint64_t entry_bytes = 0;
  std::uint64_t key_offset = 0;  // in an entry
  std::uint64_t value_offset = 0;
  std::uint64_t nentries = 0;  // used so far, deleted ones too
  std::uint64_t usable = 0;    // still free
  std::uint64_t capacity = 0;  // entries the table has room for
  std::int64_t refcnt = 0;     // of the keys object; more than 1 if shared
  std::uint64_t size_bytes = 0;
};

// Decodes the PyDictKeysObject at `address`; nothing if it does not add up.
std::optional<DictKeys> read_dict_keys(Reader& reader, const PyTraits& traits, Addr address);

}  // namespace heapcore
