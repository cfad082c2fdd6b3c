// By which way each block is best held: a forest over the whole graph, of shortest paths from named roots.
//
// What Python code reaches by name comes first, however far: modules and builtins; then what functions hold; then what
// C code holds; then roots without names. So a path tells where to look, and of two that tell it equally well it is the
// shorter. One search finds a parent for every node; 4 bytes a node.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "analysis/graph.h"
#include "analysis/roots.h"

namespace heapcore {

class HolderTree {
 public:
  // `out`: an edge leads from who holds to what is held.
  HolderTree(const PyRuntime& runtime, const Rows& out, const std::vector<RootRef>& roots);

  // The node before it on its path; itself if that is a root; kNoNode if nothing leads to it.
  NodeId parent(NodeId node) const { return parent_[node]; }
  // Which of the roots holds the first node of a path; none if it is no such node.
  std::optional<std::uint32_t> root(NodeId node) const;

 private:
  void search(const Rows& out, const std::vector<NodeId>& from);

  Column<NodeId> parent_;
  std::vector<std::pair<NodeId, std::uint32_t>> root_of_;  // sorted: an entry, and which of the roots names it best
};

}  // namespace heapcore
