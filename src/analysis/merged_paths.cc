#include "analysis/merged_paths.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "analysis/type_rows.h"

namespace heapcore {
namespace {

constexpr std::uint32_t kNoShape = ~std::uint32_t{0};
constexpr std::size_t kMaxPeriod = 4;    // of edges that repeat: "node.next.next.next"
constexpr std::uint32_t kMaxDepth = 64;  // of what does not; below that all is one

// What the paths to many objects have in common, as a tree.
class PathMerger {
 public:
  PathMerger(const Process& process, const HeapGraph& graph, const PathsOptions& options, Findings& findings)
      : graph_(graph),
        options_(options),
        paths_(process, graph, options.values, findings),
        sizes_(process, graph),
        needed_(graph.blocks.size()),
        shape_of_(graph.blocks.size(), kNoShape) {}

  PathsAnswer run(const std::vector<NodeId>& nodes) {
    PathsAnswer answer;
    for (const NodeId node : nodes) need(node);
    for (const NodeId node : nodes) {
      const std::uint64_t size = sizes_.of(node);
      Shape& shape = shapes_[shape_of(node)];
      shape.held.add(size);
      answer.total.add(size);
    }
    for (std::uint32_t i = 0; i < shapes_.size(); ++i) {
      if (shapes_[i].held.count == 0) continue;
      const auto [path, text] = path_of(i);
      answer.paths.push_back({path, text, shapes_[i].held.count, shapes_[i].held.bytes});
    }
    std::sort(answer.paths.begin(), answer.paths.end(), [](const HeldBy& a, const HeldBy& b) {
      return std::tie(b.count, b.bytes, a.text) < std::tie(a.count, a.bytes, b.text);
    });
    answer.paths_count = answer.paths.size();
    if (options_.limit != 0) answer.paths.resize(std::min(answer.paths.size(), options_.limit));
    return answer;
  }

  MergedHolders ways_of(const std::vector<NodeId>& nodes) {
    MergedHolders merged;
    for (const NodeId node : nodes) need(node);
    std::map<std::uint32_t, std::uint32_t> ways;  // by shape
    for (const NodeId node : nodes) {
      const std::uint32_t shape = shape_of(node);
      const auto [entry, is_new] = ways.try_emplace(shape, static_cast<std::uint32_t>(merged.ways.size()));
      if (is_new) merged.ways.push_back(path_of(shape).second);
      merged.way_of.push_back(entry->second);
    }
    return merged;
  }

 private:
  struct Shape {
    std::uint32_t parent = kNoShape;  // of a root's: none
    std::uint32_t depth = 0;
    std::string edge;
    std::string type;
    bool repeats = false;  // deeper ones of the same edges are counted here
    NodeId example = kNoNode;
    CountBytes held;
  };
  using Key = std::tuple<std::uint32_t, std::string, std::string>;

  // Marks a node and all on its path.
  void need(NodeId node) {
    while (node != kNoNode && !needed_[node]) {
      needed_[node] = true;
      node = paths_.parent(node);
    }
  }

  // From its root down: the names of all edges that a node needs are read together, since each needs the whole node.
  std::uint32_t shape_of(NodeId node) {
    std::vector<NodeId> above;
    for (NodeId at = node; shape_of_[at] == kNoShape; at = paths_.parent(at)) {
      above.push_back(at);
      if (paths_.parent(at) == at || paths_.parent(at) == kNoNode) break;
    }
    for (; !above.empty(); above.pop_back()) {
      const NodeId at = above.back();
      if (shape_of_[at] != kNoShape) continue;
      const NodeId parent = paths_.parent(at);
      if (parent == at || parent == kNoNode) {
        shape_of_[at] = shape(kNoShape, paths_.root_text(at), at);
      } else {
        name_children(parent);
      }
    }
    return shape_of_[node];
  }

  void name_children(NodeId parent) {
    const std::uint32_t above = shape_of_[parent];
    if (graph_.blocks.is_object(parent)) {
      const bool is_namespace = HolderPaths::leads_to_names(shapes_[above].edge);
      paths_.for_each_child(parent, [&](NodeId child, const EdgeName& name) {
        if (needed_[child] && shape_of_[child] == kNoShape)
          shape_of_[child] = shape(above, general_text(parent, name, is_namespace), child);
      });
    }
    // Words of raw blocks, and what for_each_child() did not name.
    for (const NodeId child : graph_.out.row(parent)) {
      if (paths_.parent(child) == parent && child != parent && needed_[child] && shape_of_[child] == kNoShape)
        shape_of_[child] = shape(above, "word in raw block", child);
    }
  }

  std::string general_text(NodeId from, const EdgeName& name, bool is_namespace) {
    switch (name.what) {
      case What::kItem:
        return "[...]";
      case What::kDictKey:
        return "key";
      case What::kDictValue:
        return is_namespace ? paths_.text_of(from, name, true) : "[...]";
      case What::kStack:
        return "stack[...]";
      default:
        return paths_.text_of(from, name, false);
    }
  }

  std::uint32_t shape(std::uint32_t parent, std::string edge, NodeId node) {
    const std::string type = graph_.type_name(node);
    const std::uint32_t repeated = repetition(parent, edge, type);
    if (repeated != kNoShape) {
      shapes_[repeated].repeats = true;
      return repeated;
    }
    const std::uint32_t depth = parent == kNoShape ? 0 : shapes_[parent].depth + 1;
    if (depth > kMaxDepth) return parent;
    const auto [entry, is_new] =
        numbers_.try_emplace(Key(parent, edge, type), static_cast<std::uint32_t>(shapes_.size()));
    if (is_new) shapes_.push_back({parent, depth, std::move(edge), type, false, node, {}});
    return entry->second;
  }

  // The shape that this step comes to again, if the last few steps and it do what those before them did.
  std::uint32_t repetition(std::uint32_t parent, const std::string& edge, const std::string& type) const {
    const auto up = [this](std::uint32_t at) { return at == kNoShape ? kNoShape : shapes_[at].parent; };
    std::uint32_t again = parent;
    for (std::size_t length = 1; length <= kMaxPeriod && again != kNoShape; ++length, again = up(again)) {
      if (shapes_[again].edge != edge || shapes_[again].type != type) continue;
      std::uint32_t late = parent;
      std::uint32_t early = up(again);
      std::size_t same = 1;
      for (; same < length && late != kNoShape && early != kNoShape; ++same, late = up(late), early = up(early)) {
        if (shapes_[late].edge != shapes_[early].edge || shapes_[late].type != shapes_[early].type) break;
      }
      if (same == length) return again;
    }
    return kNoShape;
  }

  std::pair<HolderPath, std::string> path_of(std::uint32_t shape) {
    HolderPath path;
    std::vector<std::string> edges;
    for (std::uint32_t at = shape; at != kNoShape; at = shapes_[at].parent) {
      path.steps.push_back({shapes_[at].example, shapes_[at].edge});
      if (shapes_[at].repeats) edges.emplace_back("...");
      edges.push_back(shapes_[at].edge);
    }
    std::reverse(path.steps.begin(), path.steps.end());
    std::reverse(edges.begin(), edges.end());
    if (const RootWord* root = paths_.root(path.steps.front().node)) path.root = root->kind;
    return {path, join_edges(edges)};
  }

  const HeapGraph& graph_;
  const PathsOptions& options_;
  HolderPaths paths_;
  NodeSizes sizes_;
  std::vector<bool> needed_;             // by node: on the path of what is asked for
  std::vector<std::uint32_t> shape_of_;  // by node
  std::vector<Shape> shapes_;
  std::map<Key, std::uint32_t> numbers_;
};

// Does a node's own path lead through this one?
bool leads_through(const HolderPaths& paths, NodeId node, NodeId through) {
  for (NodeId at = node; at != kNoNode; at = paths.parent(at)) {
    if (at == through) return true;
    if (paths.parent(at) == at) return false;
  }
  return false;
}

}  // namespace

PathsAnswer paths_of_node(const Process& process, const HeapGraph& graph, NodeId node, const PathsOptions& options,
                          Findings& findings) {
  PathsAnswer answer;
  HolderPaths paths(process, graph, options.values, findings);
  answer.total.add(NodeSizes(process, graph).of(node));
  const auto add = [&](HolderPath path) {
    if (options.limit != 0 && answer.paths.size() >= options.limit) return;
    std::string text = path.text();
    answer.paths.push_back({std::move(path), std::move(text), 1, answer.total.bytes});
  };
  if (paths.parent(node) == kNoNode) return answer;
  add(paths.path(node));
  answer.paths_count = 1;
  for (const RootRef& root : graph.roots) {
    if (root.target != node || &root.word == paths.root(node)) continue;
    ++answer.paths_count;
    HolderPath path;
    path.root = root.word.kind;
    path.steps.push_back({node, paths.root_text(root.word)});
    add(std::move(path));
  }
  NodeId last = kNoNode;
  for (const NodeId from : graph.in().row(node)) {
    const bool again = from == last || from == paths.parent(node);
    last = from;
    if (again || leads_through(paths, from, node)) continue;
    ++answer.paths_count;
    if (options.limit != 0 && answer.paths.size() >= options.limit) continue;
    HolderPath path = paths.path(from);
    path.steps.push_back({node, paths.edge(from, node)});
    add(std::move(path));
  }
  return answer;
}

PathsAnswer paths_of_types(const Process& process, const HeapGraph& graph, const std::string& glob,
                           const PathsOptions& options, Findings& findings) {
  const TypeTable& types = *graph.census.types;
  std::vector<bool> wanted(types.size());
  for (TypeId id = 0; id < types.size(); ++id)
    wanted[id] = type_matches(types.info(id).module, types.info(id).name, {glob});
  std::vector<NodeId> nodes;
  for (NodeId node = 0; node < graph.blocks.objects(); ++node) {
    if (wanted[graph.blocks.type(node)]) nodes.push_back(node);
  }
  return PathMerger(process, graph, options, findings).run(nodes);
}

MergedHolders merge_holders(const Process& process, const HeapGraph& graph, const std::vector<NodeId>& nodes,
                            bool values, Findings& findings) {
  return PathMerger(process, graph, {0, values}, findings).ways_of(nodes);
}

}  // namespace heapcore
