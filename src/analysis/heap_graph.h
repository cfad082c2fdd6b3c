// Who refers to whom: the graph over all blocks of a BlockTable, and what holds it from outside.
//
// Edges are the strong references of objects (ReferenceReader's visited, owned and buffer references); the words of
// structs that nobody describes; and the words of raw blocks whose contents no object knows. What lies outside the
// blocks, such as frames, the interpreter's own state, static data and native stacks, holds objects through roots.
//
// Not every word that looks like a reference is one. An object whose reference count the known edges explain needs no
// other holder; so a word counts as a reference only as long as its target has references left that nothing else
// explains. What stays unexplained in the end is a root of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "analysis/block_table.h"
#include "analysis/census.h"
#include "analysis/graph.h"
#include "analysis/holder_tree.h"
#include "analysis/process.h"
#include "analysis/roots.h"
#include "pyobj/objects.h"

namespace heapcore {

// What sweeps know of each type, by TypeId.
std::vector<TypeBrief> briefs_of(TypeTable& types);
// REQUIRES: blocks.is_object(id).
ObjectView view_of(const BlockTable& blocks, const std::vector<TypeBrief>& briefs, BlockId id);

struct HeapGraph {
  BlockTable blocks;
  Census census;
  std::vector<TypeBrief> briefs;  // by TypeId
  Rows out;
  NodeSet shared;               // every node that several edges lead to, and perhaps others
  std::vector<RootRef> roots;   // in the order of RootKind; a target may have several
  std::vector<NodeId> entries;  // the roots' targets, each once, in that order
  Column<std::int32_t> excess;  // by object: its reference count less the references found; 0 if immortal
  // Edges of objects that are words of structs that nobody describes; sorted. They are in `out` as well.
  std::vector<std::pair<NodeId, NodeId>> conservative;

  // `out` turned round. Made when it is first asked for, as most questions do without: then by one thread only.
  const Rows& in() const;

  // By which way each node is best held. Made when it is first asked for; the same holds.
  const HolderTree& holder_tree(const PyRuntime& runtime) const;

  // REQUIRES: blocks.is_object(node).
  ObjectView view(NodeId node) const;
  // "module.name" of an object's type; "raw block" of what is none.
  std::string type_name(NodeId node) const;

 private:
  mutable std::optional<Rows> in_;
  mutable std::optional<HolderTree> holder_tree_;
};

// The passes "decode" and "link". REQUIRES: process.runtime() != nullptr.
HeapGraph link_heap(const Process& process, Progress& progress, Findings& findings, Timings& timings);

}  // namespace heapcore
