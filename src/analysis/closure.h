// What some objects lead to: by the references that tp_traverse visits everything a program meets that follows
// gc.get_referents(), objects in the static data of the interpreter and of extension modules included; or by all
// references that are counted.
//
// Every object is met once, so the work is bounded by the references that the snapshot holds.
#pragma once

#include <unordered_set>
#include <vector>

#include "analysis/block_table.h"
#include "analysis/process.h"
#include "pyobj/objects.h"
#include "pyobj/references.h"

namespace heapcore {

class Closure {
 public:
  enum class Follows : std::uint8_t { kVisited, kCounted };

  // REQUIRES: process.runtime() != nullptr; `types` and `blocks` are a census's, and outlive the closure.
  Closure(const Process& process, TypeTable& types, const BlockTable& blocks, Follows follows);

  void start_from(Addr object) { meet(object); }

  // Calls met(const ObjectView&, bytes as sys.getsizeof has them) for each object, those started from included.
  template <typename Met>
  void run(Met&& met) {
    while (!waiting_.empty()) {
      const Addr address = waiting_.back();
      waiting_.pop_back();
      ObjectView object;
      if (!objects_.at(address, object)) continue;
      met(object, bytes_of(object));
      follow(object);
    }
  }

  ObjectReader& objects() { return objects_; }
  const Findings& findings() const { return references_.findings(); }

 private:
  void meet(Addr address);
  void follow(const ObjectView& object);
  bool may_be_visited(Addr address, bool of_module);
  std::uint64_t bytes_of(const ObjectView& object);

  Follows follows_;
  std::uint64_t mapped_bytes_;
  TypeTable& types_;
  const BlockTable& blocks_;
  std::vector<bool> seen_;
  std::unordered_set<Addr> elsewhere_;  // not in the table
  std::vector<Addr> waiting_;
  ObjectReader objects_;
  ReferenceReader references_;
};

}  // namespace heapcore
