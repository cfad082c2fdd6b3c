// The collector's lists: rings of PyGC_Head through every tracked object, one ring for each generation and one for what
// was frozen.
//
// Following a ring visits objects in the order in which they were made, all over memory. A sweep in address order meets
// the same objects and their links, and whether it met all of them can be told without following anything: the rings
// are whole exactly if the set of nodes is the set of link targets. GcRingCheck compares the two by sums of a mixing
// function; only if they differ need the rings be walked.
#pragma once

#include <cstdint>
#include <vector>

#include "coreparse/address_space.h"
#include "pyobj/runtime.h"
#include "support/finding.h"

namespace heapcore {

struct GcListHead {
  Addr address = 0;        // of the ring's PyGC_Head, in the interpreter's state
  bool permanent = false;  // what gc.freeze() put aside: tracked, but not in gc.get_objects()
  int generation = 0;      // of the others: 0 is the youngest
};

std::vector<GcListHead> gc_list_heads(const PyRuntime& runtime);

class GcRingCheck {
 public:
  // A node (the address of its PyGC_Head) and its _gc_next, flags removed.
  void add(Addr node, Addr next) {
    nodes_ += mix(node);
    targets_ += mix(next);
    ++count_;
  }
  void remove(Addr node, Addr next) {
    nodes_ -= mix(node);
    targets_ -= mix(next);
    --count_;
  }
  void merge(const GcRingCheck& other) {
    nodes_ += other.nodes_;
    targets_ += other.targets_;
    count_ += other.count_;
  }
  bool whole() const { return nodes_ == targets_; }
  std::uint64_t count() const { return count_; }

 private:
  static std::uint64_t mix(std::uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
    return x ^ x >> 31;
  }

  std::uint64_t nodes_ = 0;
  std::uint64_t targets_ = 0;
  std::uint64_t count_ = 0;
};

// Calls visit(address of a PyGC_Head) for each member of the ring. Ends at the head, at a member that does not point
// back, behind one whose link leads nowhere, or after max_nodes; all but the first are findings.
template <typename Visitor>
void walk_gc_list(Reader& reader, const PyTraits& traits, Addr head, std::uint64_t max_nodes, Findings& findings,
                  Visitor&& visit) {
  const auto& fields = traits.layout->PyGC_Head;
  Addr previous = head;
  Addr at = 0;
  std::uint64_t nodes = 0;
  bool readable = reader.try_load(head + fields._gc_next.offset, at);
  bool sound = readable;
  at = align_down(at, 4);
  while (sound && at != head && nodes < max_nodes) {
    Addr next = 0;
    Addr back = 0;
    readable = is_aligned(at, 8) && reader.try_load(at + fields._gc_next.offset, next) &&
               reader.try_load(at + fields._gc_prev.offset, back);
    sound = readable && (align_down(back, 4) == previous || (back & 2) != 0);
    if (!sound) break;
    visit(at);
    ++nodes;
    previous = at;
    at = align_down(next, 4);
  }
  if (sound && at == head) return;
  findings.add({"gc-list-broken", Room::kPyobj, readable ? at : previous,
                "a list of the collector breaks off here; objects behind it are known "
                "only from the memory they lie in"});
}

}  // namespace heapcore
