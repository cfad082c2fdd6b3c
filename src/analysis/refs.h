// Who refers to an object, and what it refers to: the two lists of `refs ADDR`.
//
// What refers to it is found by reading the references of every object there is, static ones that any of them leads to
// included; so it costs as much for one address as for many.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "analysis/process.h"
#include "pyobj/references.h"
#include "support/progress.h"

namespace heapcore {

struct Reference {
  Addr address = 0;  // of the other end: the referrer, or what is referred to
  RefKind kind = RefKind::kVisited;
  std::string edge;         // as edge_text() has it
  std::string type;         // "module.qualname"; empty for a block that is no object
  std::uint64_t bytes = 0;  // sys.getsizeof; of a block, what the allocator gave; 0 where nothing is known there
  std::optional<std::uint64_t> retained_bytes;  // if add_retained() was asked
};

struct ReferencesOf {
  Addr asked = 0;
  Addr address = 0;  // of the object or block that holds what was asked for; 0 if there is none
  std::string type;
  std::uint64_t bytes = 0;
  std::optional<std::uint64_t> retained_bytes;
  std::vector<Reference> out;   // in the order of the object's parts
  std::vector<Reference> in;    // by kind and address
  std::uint64_t out_count = 0;  // of which `out` and `in` hold the first
  std::uint64_t in_count = 0;
};

struct RefsOptions {
  std::size_t limit = 20;  // of each list; 0 for no limit
  bool values = false;     // keys of dicts may be shown
};

// The passes "decode" and "link". REQUIRES: process.runtime() != nullptr.
std::vector<ReferencesOf> find_references(Process& process, const std::vector<Addr>& addresses,
                                          const RefsOptions& options, Progress& progress);

}  // namespace heapcore
