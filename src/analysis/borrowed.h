// Words of the interpreter's own data that point to objects without holding them, so that they explain no reference.
//
// Two tables of CPython's are full of such. They are told by their form, since where they lie differs with every
// version:
//   the cache of attributes by type (Objects/typeobject.c), entries of | version tag, 32 bits | name | value |
//   free lists of dicts and lists (Objects/dictobject.c, listobject.c): arrays of pointers, of which those beyond the
//   number of free objects are stale
#pragma once

#include <unordered_set>

#include "analysis/roots.h"
#include "pyobj/types.h"

namespace heapcore {

class BorrowedWords {
 public:
  // Keeps references to both.
  BorrowedWords(const Process& process, TypeTable& types);

  // REQUIRES: an object begins at word.target, of this type.
  bool is_borrowed(const RootWord& word, const TypeInfo& type);

 private:
  bool is_cached_attribute(Addr place);
  bool is_cache_entry(Addr entry, bool may_be_empty);
  bool is_in_free_list(const RootWord& word, Addr type);
  // The type that an object at this address has or had; 0 if none can be there.
  Addr type_of(Addr address);

  const PyTraits& traits_;
  const PyLayout& layout_;
  TypeTable& types_;
  Reader reader_;
  std::unordered_set<Addr> variables_;  // of the interpreters, of which it is known that they hold what they point to
};

}  // namespace heapcore
