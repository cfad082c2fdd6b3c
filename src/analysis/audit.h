// Objects whose reference count exceeds the references that were found: the known ones of other objects, and those that
// stacks, frames, static data and native blocks explain (heap_graph.h). Somebody counted up and forgot to count down.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analysis/holders.h"

namespace heapcore {

struct AuditRow {
  std::string type;          // "module.name"
  std::uint64_t count = 0;   // of objects
  std::uint64_t bytes = 0;   // sys.getsizeof
  std::uint64_t excess = 0;  // references too many, in all
  std::uint64_t lost = 0;    // of the objects, those that nothing at all was found to hold
  Addr example = 0;
};

struct AuditObject {
  Addr address = 0;
  std::string type;
  std::string name;  // of one that is never given back: the module's, the type's; may be empty
  std::int64_t refcount = 0;
  std::int64_t excess = 0;
  bool lost = false;
};

struct AuditAnswer {
  std::vector<AuditRow> types;  // by excess
  std::uint64_t types_count = 0;
  std::vector<AuditObject> objects;  // by excess
  std::uint64_t objects_count = 0;
  std::uint64_t excess = 0;
  // Left out of all that: objects that CPython's own C code counts once too often (PyTraits::never_given_back).
  std::vector<AuditObject> never_given_back;
};

// By object: it has a reference count that nothing explains, and nothing at all was found to hold it. Roots that only
// stand for what was not found do not hold.
std::vector<bool> lost_objects(const HeapGraph& graph);

// limit: of each list; 0 for no limit.
AuditAnswer audit_counts(const Process& process, const HeapGraph& graph, std::size_t limit);

}  // namespace heapcore
