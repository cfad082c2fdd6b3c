#include "analysis/waste.h"

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "analysis/paths.h"
#include "analysis/waste_parts.h"
#include "pyobj/strings.h"
#include "pyobj/text_bytes.h"

namespace heapcore {
namespace {

constexpr int kMostSteps = 8;
constexpr std::uint64_t kMostShownText = 60;

class WasteFinder {
 public:
  WasteFinder(const Process& process, const HeapGraph& graph, const WasteOptions& options, Findings& findings)
      : process_(process), graph_(graph), options_(options), findings_(findings), is_root_(graph.blocks.size()) {
    for (const RootRef& root : graph.roots) is_root_[root.target] = true;
  }

  WasteAnswer run() {
    add_strings(find_duplicate_strings(process_, graph_, options_));
    for (const WasteFind& find : find_container_waste(process_, graph_, options_)) add(find);
    for (auto& [key, row] : rows_) finish(key, row);
    std::sort(answer_.waste.begin(), answer_.waste.end(), [](const WasteRow& a, const WasteRow& b) {
      return std::tie(b.figures.wasted_bytes, a.kind, a.type, a.held_by) <
             std::tie(a.figures.wasted_bytes, b.kind, b.type, b.held_by);
    });
    answer_.waste_count = answer_.waste.size();
    answer_.strings_count = answer_.strings.size();
    if (options_.limit != 0) {
      answer_.waste.resize(std::min(answer_.waste.size(), options_.limit));
      answer_.strings.resize(std::min(answer_.strings.size(), options_.limit));
    }
    add_paths();
    return std::move(answer_);
  }

 private:
  struct Key {
    WasteKind kind = WasteKind::kDuplicateStrings;
    TypeId type = kNoType;
    TypeId holder = kNoType;
    auto operator<=>(const Key&) const = default;
  };
  struct Row {
    WasteFigures figures;
    std::vector<std::pair<std::uint64_t, NodeId>> largest;  // what each wastes; of as many as are shown
  };

  void add_strings(std::vector<StringGroup> groups) {
    for (const StringGroup& group : groups) {
      // A copy's part of what the group wastes; the first stays.
      const std::uint64_t copies = group.copies.size();
      const std::uint64_t first_bytes = group.bytes - group.wasted_bytes;
      for (std::size_t i = 0; i < copies; ++i) {
        const std::uint64_t each =
            i == 0 ? first_bytes
                   : (group.wasted_bytes * i) / (copies - 1) - (group.wasted_bytes * (i - 1)) / (copies - 1);
        add({group.copies[i], group.copies[i], WasteKind::kDuplicateStrings, 1, each, i == 0 ? 0 : each});
      }
    }
    std::stable_sort(groups.begin(), groups.end(),
                     [](const StringGroup& a, const StringGroup& b) { return a.wasted_bytes > b.wasted_bytes; });
    answer_.strings.reserve(groups.size());
    for (const StringGroup& group : groups) {
      DuplicateString string;
      string.length = group.length;
      string.figures = {group.copies.size(), group.bytes, group.wasted_bytes};
      const std::size_t shown = options_.objects_limit == 0 ? group.copies.size() : options_.objects_limit;
      for (std::size_t i = 0; i < std::min(shown, group.copies.size()); ++i)
        string.objects.push_back(graph_.blocks.address(group.copies[i]));
      answer_.strings.push_back(std::move(string));
    }
  }

  void add(const WasteFind& find) {
    const NodeId holder = owner_of(find.shown);
    const TypeId holder_type = holder == kNoNode ? kNoType : graph_.blocks.type(holder);
    Row& row = rows_[{find.kind, graph_.blocks.type(find.node), holder_type}];
    const WasteFigures figures = {find.count, find.bytes, find.wasted_bytes};
    row.figures += figures;
    answer_.by_kind[static_cast<std::size_t>(find.kind)] += figures;
    answer_.total += figures;
    keep_largest(row, find);
  }

  // In a heap, the least that is kept on top.
  void keep_largest(Row& row, const WasteFind& find) const {
    const auto better = [](const auto& a, const auto& b) {
      return std::tie(b.first, a.second) < std::tie(a.first, b.second);
    };
    const std::pair<std::uint64_t, NodeId> entry = {find.wasted_bytes, find.shown};
    if (options_.objects_limit != 0 && row.largest.size() == options_.objects_limit) {
      if (!better(entry, row.largest.front())) return;
      std::pop_heap(row.largest.begin(), row.largest.end(), better);
      row.largest.pop_back();
    }
    row.largest.push_back(entry);
    std::push_heap(row.largest.begin(), row.largest.end(), better);
  }

  // The instance, class, module or function that a node is part of, through containers that only one thing holds; or
  // the outermost such container. kNoNode if several hold it, or nothing does.
  NodeId owner_of(NodeId node) const {
    NodeId owner = kNoNode;
    for (int step = 0; step < kMostSteps; ++step) {
      const auto in = graph_.in().row(node);
      if (in.empty() || is_root_[node]) break;
      if (std::any_of(in.begin(), in.end(), [&](NodeId from) { return from != in[0]; })) break;
      node = in[0];
      if (!graph_.blocks.is_object(node)) continue;
      owner = node;
      const TypeInfo& type = graph_.census.types->info(graph_.blocks.type(node));
      const bool is_container = type.kind == Kind::kDict || type.kind == Kind::kList || type.kind == Kind::kTuple ||
                                type.kind == Kind::kSet || type.kind == Kind::kFrozenSet;
      if (!is_container || !is_builtin(type, process_.runtime()->traits)) break;
    }
    return owner;
  }

  std::string type_text(TypeId id) const {
    if (id == kNoType) return "";
    const TypeInfo& info = graph_.census.types->info(id);
    return info.module.empty() ? info.name : info.module + "." + info.name;
  }

  void finish(const Key& key, Row& row) {
    WasteRow out;
    out.kind = key.kind;
    out.type = type_text(key.type);
    out.held_by = type_text(key.holder);
    out.figures = row.figures;
    std::sort(row.largest.begin(), row.largest.end(),
              [](const auto& a, const auto& b) { return std::tie(b.first, a.second) < std::tie(a.first, b.second); });
    for (const auto& [wasted, node] : row.largest) out.objects.push_back(graph_.blocks.address(node));
    answer_.waste.push_back(std::move(out));
  }

  // Only of what is shown.
  void add_paths() {
    if (answer_.waste.empty()) return;
    HolderPaths paths(process_, graph_, options_.values, findings_);
    for (WasteRow& row : answer_.waste) row.path = path_of(paths, row.objects.front());
    Reader reader(process_.snapshot.space);
    for (DuplicateString& string : answer_.strings) {
      const NodeId node = graph_.blocks.find_object(string.objects.front());
      const NodeId holder = owner_of(node);
      string.type = type_text(graph_.blocks.type(node));
      string.held_by = holder == kNoNode ? "" : type_text(graph_.blocks.type(holder));
      string.path = path_of(paths, string.objects.front());
      if (options_.values) string.text = text_of(reader, string);
    }
  }

  std::string path_of(HolderPaths& paths, Addr object) {
    const NodeId node = graph_.blocks.find_object(object);
    return node == kNoNode ? "" : paths.path(node).text();
  }

  std::string text_of(Reader& reader, const DuplicateString& string) const {
    const PyTraits& traits = process_.runtime()->traits;
    const Addr address = string.objects.front();
    const NodeId node = graph_.blocks.find_object(address);
    const Kind kind = graph_.census.types->info(graph_.blocks.type(node)).kind;
    std::string text;
    if (kind == Kind::kBytes) {
      const std::span<const std::byte> bytes = text_bytes(reader, traits, kind, address).bytes;
      text.assign(reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), kMostShownText));
    } else {
      text = decode_str(reader, traits, address, string.length).value_or("");
      if (text.size() > kMostShownText) text.resize(kMostShownText);
    }
    return text;
  }

  const Process& process_;
  const HeapGraph& graph_;
  const WasteOptions& options_;
  Findings& findings_;
  std::vector<bool> is_root_;  // by node
  std::map<Key, Row> rows_;
  WasteAnswer answer_;
};

}  // namespace

std::string_view waste_kind_name(WasteKind kind) {
  constexpr std::string_view kNames[kWasteKinds] = {"duplicate_strings", "instance_dicts", "empty_containers",
                                                    "sparse_containers", "spare_room",     "boxed_numbers"};
  return kNames[static_cast<std::size_t>(kind)];
}

WasteAnswer find_waste(const Process& process, const HeapGraph& graph, const WasteOptions& options,
                       Findings& findings) {
  graph.in();  // made here, before several threads ask for it
  return WasteFinder(process, graph, options, findings).run();
}

}  // namespace heapcore
