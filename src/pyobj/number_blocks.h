// The blocks of ints and floats of CPython 2.7, which allocates those two kinds itself (Objects/intobject.c,
// floatobject.c):
//
//   malloc chunk | next block | number | number | ... 41 of them
//
// All blocks of a kind are on one list. A number in use has its type's address for ob_type; in one that is free there
// stands the link to the next free one, or 0. Only objects of exactly the type lie here; subclasses' instances are
// allocated as any object.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "coreparse/snapshot.h"
#include "pyobj/runtime.h"
#include "support/finding.h"

namespace heapcore {

// Where the two lists start, for versions that have them, into runtime.number_blocks: by what PyInt_ClearFreeList and
// PyFloat_ClearFreeList read first, or, where the snapshot has no code, as the variables of the module that lead to the
// longest list that looks like one.
void find_number_blocks(const Snapshot& snapshot, const Module& module, PyRuntime& runtime, Findings& findings);

// Bytes of a block, and of one number in it; the same for both kinds.
std::uint64_t number_block_bytes(const PyTraits& traits);

// The addresses of a list's blocks, sorted. A list that meets itself, or leads to what is no block, is a finding.
std::vector<Addr> read_number_blocks(Reader& reader, const PyTraits& traits, const NumberBlockList& list,
                                     Findings& findings);

// Calls visit(address) for each number in use of the block at `address`, whose bytes these are.
template <typename Visitor>
void for_each_number(const PyTraits& traits, Addr type, Addr address, std::span<const std::byte> bytes,
                     Visitor&& visit) {
  const PyLayout& layout = *traits.layout;
  const std::uint64_t stride = layout.PyIntObject.size_bytes;
  for (std::uint64_t at = layout._intblock.objects.offset; at + stride <= bytes.size(); at += stride) {
    Addr ob_type = 0;
    std::uint64_t refcnt = 0;
    std::memcpy(&ob_type, bytes.data() + at + layout.PyObject.ob_type.offset, sizeof ob_type);
    std::memcpy(&refcnt, bytes.data() + at + layout.PyObject.ob_refcnt.offset, sizeof refcnt);
    if (ob_type == type && refcnt - 1 < traits.refcnt_bound) visit(address + at);
  }
}

}  // namespace heapcore
