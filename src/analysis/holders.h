// What the commands about holders share, the heap's graph and its dominators; and the answer of `retained`.
#pragma once

#include <string>
#include <vector>

#include "analysis/heap_graph.h"
#include "analysis/paths.h"
#include "analysis/refs.h"
#include "analysis/retained.h"

namespace heapcore {

struct Holders {
  HeapGraph graph;
  Retained retained;
};

// The passes "decode", "link" and "dominate". REQUIRES: process.runtime() != nullptr.
Holders find_holders(const Process& process, Progress& progress, Findings& findings, Timings& timings);

// sys.getsizeof of an object; of a raw block what the allocator gave. One for each thread.
class NodeSizes {
 public:
  NodeSizes(const Process& process, const HeapGraph& graph);
  // `briefs`: of `types`, by TypeId. Keeps references to all of them.
  NodeSizes(const Process& process, const BlockTable& blocks, TypeTable& types, const std::vector<TypeBrief>& briefs);
  std::uint64_t of(NodeId node);

 private:
  const BlockTable& blocks_;
  const std::vector<TypeBrief>& briefs_;
  std::uint64_t mapped_bytes_;
  ObjectReader objects_;
};

// The block that begins at an address, or that it lies in; kNoNode if there is none.
NodeId node_at(const BlockTable& blocks, Addr address);

struct RetainedRow {
  Addr address = 0;
  std::string type;  // "module.name"; "raw block" for one that holds no object
  std::uint64_t bytes = 0;
  std::uint64_t retained_bytes = 0;
  std::string root;  // the kind of the root that its path starts from
  std::string path;
};

struct RetainedAnswer {
  std::vector<RetainedRow> chain;    // where one object is asked for: its dominators, from the root down, and itself
  std::vector<RetainedRow> objects;  // the top of the tree, or what that object dominates; largest first
  std::uint64_t objects_count = 0;   // how many there are in all
  std::vector<RetainedRow> accumulation;  // of each of the first rows of `objects`, where what it retains piles up
  std::vector<RetainedGroup> types;
  std::vector<RetainedGroup> modules;
  CountBytes total;  // of all blocks, as the allocators count
};

struct RetainedOptions {
  NodeId of = kNoNode;     // one object's part of the tree
  std::size_t limit = 20;  // of each list; 0 for no limit
  bool values = false;     // keys of dicts may be shown
};

RetainedAnswer retained_answer(const Process& process, const Holders& holders, const RetainedOptions& options,
                               Findings& findings);

// Says of every object and block in the answers of `refs` what it retains.
void add_retained(const Holders& holders, std::vector<ReferencesOf>& answers);

}  // namespace heapcore
