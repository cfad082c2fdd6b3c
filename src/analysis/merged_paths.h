// How one object, or all objects of a type, are held: the answer of `paths`.
//
// Of one object there is a path through each that refers to it. Of many, their shortest paths are merged: edges that
// differ only in an index or a key are one, and so is a chain of the same edges, however long.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analysis/holders.h"

namespace heapcore {

struct HeldBy {
  HolderPath path;  // of one of them
  std::string text;
  std::uint64_t count = 0;  // of objects that are held so
  std::uint64_t bytes = 0;  // sys.getsizeof of those
};

struct PathsAnswer {
  std::vector<HeldBy> paths;      // of one object the nearest first, of many the most frequent
  std::uint64_t paths_count = 0;  // of which `paths` are the first
  CountBytes total;               // of the objects asked for; sys.getsizeof
};

struct PathsOptions {
  std::size_t limit = 20;  // 0 for no limit
  bool values = false;     // keys of dicts may be shown
};

// Of the object or block at `node`.
PathsAnswer paths_of_node(const Process& process, const HeapGraph& graph, NodeId node, const PathsOptions& options,
                          Findings& findings);

// Of the objects of all types that match the glob (type_matches() in type_rows.h).
PathsAnswer paths_of_types(const Process& process, const HeapGraph& graph, const std::string& glob,
                           const PathsOptions& options, Findings& findings);

// How many nodes are held, each by its shortest path, for answers that group them.
struct MergedHolders {
  std::vector<std::uint32_t> way_of;  // of each node asked for, which of `ways`
  std::vector<std::string> ways;
};

// `values`: keys of dicts may be shown.
MergedHolders merge_holders(const Process& process, const HeapGraph& graph, const std::vector<NodeId>& nodes,
                            bool values, Findings& findings);

}  // namespace heapcore
