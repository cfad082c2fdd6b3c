#include "analysis/paths.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace heapcore {
namespace {

constexpr std::size_t kMaxSteps = 64;  // shown of a path; a linked list may be as long as memory

bool is_name(std::string_view text, bool dotted) {
  const auto is_part = [dotted](unsigned char c) {
    return c == '_' || c >= 0x80 || std::isalnum(c) != 0 || (dotted && c == '.');
  };
  return !text.empty() && std::isdigit(static_cast<unsigned char>(text[0])) == 0 &&
         std::all_of(text.begin(), text.end(), is_part);
}

// Of an edge "['name']", the name; empty if it is none.
std::string_view key_name(std::string_view edge, bool dotted) {
  if (edge.size() < 5 || !edge.starts_with("['") || !edge.ends_with("']")) return {};
  const std::string_view name = edge.substr(2, edge.size() - 4);
  return is_name(name, dotted) ? name : std::string_view();
}

constexpr std::string_view kDict = ".__dict__";
constexpr std::string_view kCell = ".cell_contents";
constexpr std::string_view kCoroutine = "coro";  // of a task
constexpr std::string_view kModules = "sys.modules";

}  // namespace

std::string join_edges(const std::vector<std::string>& edges) {
  std::string text;
  for (std::size_t i = 0; i < edges.size(); ++i) {
    const std::string_view edge = edges[i];
    const std::string_view next = i + 1 < edges.size() ? std::string_view(edges[i + 1]) : std::string_view();
    if (i == 0 && edge == kModules && !key_name(next, true).empty()) {
      text = key_name(next, true);
      ++i;
    } else if (edge.ends_with(kDict) && (i == 0 || edge == kDict) && !key_name(next, false).empty()) {
      text += edge.substr(0, edge.size() - kDict.size());
      text += '.';
      text += key_name(next, false);
      ++i;
    } else if (i == 1 && edge.ends_with(" in " + text)) {  // a local of a frame that is an object
      text = edge;
    } else if (i > 0 && edge == kCell && edges[i - 1].starts_with("local ")) {
      // A local that inner functions use, too, is in a cell.
    } else if (i == 0 || edge.empty() || edge[0] == '.' || edge[0] == '[') {  // "..." too
      text += edge;
    } else {
      text += " -> ";
      text += edge;
    }
  }
  return text;
}

std::string HolderPath::text() const {
  std::vector<std::string> edges;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (omitted != 0 && i == steps.size() / 2) edges.push_back(fmt::format("... {} more ...", omitted));
    edges.push_back(steps[i].edge);
  }
  return join_edges(edges);
}

HolderPaths::HolderPaths(const Process& process, const HeapGraph& graph, bool values, Findings& findings)
    : process_(process),
      graph_(graph),
      values_(values),
      reader_(process.snapshot.space),
      references_(process.snapshot, *process.runtime(), *graph.census.types),
      names_(process, *graph.census.types, values, findings),
      frames_(process.snapshot, *process.runtime(), *graph.census.types, {values, 0}, findings),
      tree_(graph.holder_tree(*process.runtime())) {}

const RootWord* HolderPaths::root(NodeId node) const {
  const std::optional<std::uint32_t> index = tree_.root(node);
  return index ? &graph_.roots[*index].word : nullptr;
}

std::string HolderPaths::root_text(NodeId node) {
  const RootWord* of = root(node);
  return of == nullptr ? "?" : names_.text(*of);
}

HolderPath HolderPaths::path(NodeId node) {
  HolderPath path;
  std::vector<NodeId> nodes;
  for (NodeId at = node; at != kNoNode; at = parent(at)) {
    nodes.push_back(at);
    if (parent(at) == at) break;
  }
  if (parent(node) == kNoNode) return path;
  std::reverse(nodes.begin(), nodes.end());
  if (const RootWord* of = root(nodes.front())) path.root = of->kind;
  const std::size_t first_kept_again = nodes.size() > kMaxSteps ? nodes.size() - kMaxSteps / 2 : 0;
  bool names = false;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (first_kept_again != 0 && i == kMaxSteps / 2) {
      path.omitted = first_kept_again - i;
      i = first_kept_again;
      names = leads_to_names(edge(nodes[i - 2], nodes[i - 1]));
    }
    path.steps.push_back({nodes[i], i == 0 ? root_text(nodes[0]) : edge(nodes[i - 1], nodes[i], names)});
    names = leads_to_names(path.steps.back().edge);
  }
  return path;
}

bool HolderPaths::leads_to_names(std::string_view edge) {
  return edge.ends_with(kDict) || edge == kModules;
}

std::string HolderPaths::edge(NodeId from, NodeId to, bool keys_are_names) {
  if (!graph_.blocks.is_object(from)) return fmt::format("word in raw block {:#x}", graph_.blocks.address(from));
  std::optional<EdgeName> found;
  RefKind found_kind = RefKind::kWeak;
  const auto visit = [&](Addr target, RefKind kind, const EdgeName& name) {
    // A key that is also a value is better known as the value; a word that may be a reference tells least.
    const bool better = !found || (found->what == What::kDictKey && name.what == What::kDictValue) ||
                        (found_kind == RefKind::kConservative && kind != RefKind::kConservative);
    if (kind == RefKind::kWeak || !better || !leads_to(target, kind, to)) return;
    found = name;
    found_kind = kind;
  };
  const ObjectView view = graph_.view(from);
  references_.for_each(view, visit, graph_.blocks.end_of(view, from));
  if (!found) return "?";
  const std::string task = found->what == What::kField && found->field == kCoroutine ? task_name(from) : "";
  const std::string text = text_of(from, *found, keys_are_names);
  return task.empty() ? text : fmt::format("{} of task '{}'", text, task);
}

// A buffer may begin behind its allocator's debug header, or what its owner keeps before it (heap_graph.cc).
bool HolderPaths::leads_to(Addr target, RefKind kind, NodeId node) const {
  constexpr std::uint64_t kMostBefore = 32;
  if (graph_.blocks.find(target) == node) return true;
  const bool may_be_inside = kind == RefKind::kBuffer || kind == RefKind::kConservative;
  return may_be_inside && !graph_.blocks.is_object(node) && target - graph_.blocks.address(node) <= kMostBefore;
}

std::string HolderPaths::text_of(NodeId from, const EdgeName& name, bool keys_are_names) {
  const ShownKeys shown = values_ ? ShownKeys::kAll : keys_are_names ? ShownKeys::kNames : ShownKeys::kNone;
  std::string text = edge_text(reader_, process_.runtime()->traits, name, shown);
  if (name.what != What::kLocal) return text;
  const auto place = frames_.place_inside(graph_.blocks.address(from));
  return place ? fmt::format("{} in {}", text, place->text()) : text;
}

// Empty of what is no task, or has no name.
std::string HolderPaths::task_name(NodeId node) {
  if (graph_.census.types->info(graph_.blocks.type(node)).kind != Kind::kTask) return "";
  for (const ValuePart& field : frames_.describe(graph_.blocks.address(node)).fields) {
    if (field.name == "name") return field.text;
  }
  return "";
}

}  // namespace heapcore
