// How a block is held: the path to it from a named root that the holder tree has (holder_tree.h), in words.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "analysis/heap_graph.h"
#include "analysis/root_names.h"

namespace heapcore {

struct PathStep {
  NodeId node = kNoNode;
  std::string edge;  // that leads to it: of the first step, the root's name
};

struct HolderPath {
  std::vector<PathStep> steps;  // the first is held by the root itself
  std::uint64_t omitted = 0;    // of a path too long to be shown whole, steps left out in the middle of `steps`
  std::optional<RootKind> root;

  std::string text() const;  // "__main__.Processor.instance_map['key'].name"
};

// Edges as a Python expression would have them: what leads through sys.modules or a __dict__ is a dotted name.
std::string join_edges(const std::vector<std::string>& edges);

class HolderPaths {
 public:
  // Keeps references to all of them. REQUIRES: process.runtime() != nullptr.
  HolderPaths(const Process& process, const HeapGraph& graph, bool values, Findings& findings);

  // From the root to `node`; without steps if there is none.
  HolderPath path(NodeId node);

  // The node before it on its path; itself if that is a root; kNoNode if nothing leads to it.
  NodeId parent(NodeId node) const { return tree_.parent(node); }
  // What holds the first node of a path; null if it is no such node.
  const RootWord* root(NodeId node) const;
  std::string root_text(NodeId node);
  std::string root_text(const RootWord& root) { return names_.text(root); }

  // The name of an edge; "?" if the first does not refer to the second. `keys_are_names`: the first is a __dict__.
  std::string edge(NodeId from, NodeId to, bool keys_are_names = false);
  // Calls visit(NodeId, const EdgeName&) for each edge by which `from`, an object, is another's parent.
  template <typename Visit>
  void for_each_child(NodeId from, Visit&& visit) {
    const auto visit_edge = [&](Addr target, RefKind kind, const EdgeName& name) {
      const NodeId to = kind == RefKind::kWeak ? kNoBlock : graph_.blocks.find(target);
      if (to != kNoBlock && parent(to) == from && to != from) visit(to, name);
    };
    const ObjectView view = graph_.view(from);
    references_.for_each(view, visit_edge, graph_.blocks.end_of(view, from));
  }
  // The same as edge() has it; of a local, with where its function is.
  std::string text_of(NodeId from, const EdgeName& name, bool keys_are_names);
  // Does an edge of this name lead to a dict whose keys are names and no contents?
  static bool leads_to_names(std::string_view edge);

 private:
  bool leads_to(Addr target, RefKind kind, NodeId node) const;
  std::string task_name(NodeId node);

  const Process& process_;
  const HeapGraph& graph_;
  bool values_;
  Reader reader_;
  ReferenceReader references_;
  RootNames names_;
  ValueReader frames_;
  const HolderTree& tree_;
};

}  // namespace heapcore
