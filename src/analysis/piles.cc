#include "analysis/piles.h"

#include <algorithm>
#include <map>

#include "analysis/merged_paths.h"
#include "pyobj/containers.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kMostPercent = 70;      // of what a node retains, that makes it a way and no place
constexpr std::size_t kMostLooked = 1'000'000;  // nodes looked at for the items of one pile
constexpr int kMaxNested = 3;                   // containers in containers, down to the items
constexpr int kMaxWay = 100;                    // nodes; a longer way to a pile is a chain, as of a linked list
constexpr std::size_t kSamples = 32;            // of many objects, whose holders are looked at
constexpr std::size_t kMostHolders = 8;         // of one of them
constexpr std::size_t kShownWays = 3;

}  // namespace

std::vector<Pile> PileFinder::piles(std::uint64_t least_bytes) {
  std::vector<Pile> found;
  std::vector<NodeId> pending;
  for (const NodeId node : retained_.top) {
    if (retained_.bytes[node] < least_bytes) break;  // the largest come first
    pending.push_back(node);
  }
  while (!pending.empty()) {
    const NodeId start = pending.back();
    pending.pop_back();
    follow(start, least_bytes, pending, found);
  }
  return found;
}

std::vector<PileItems> PileFinder::held_together(NodeId point, std::uint64_t least_bytes) const {
  std::map<TypeId, Group> groups;
  std::vector<NodeId> raw;
  const auto add = [&](NodeId node) {
    if (retained_.bytes[node] >= least_bytes) return;  // it has a pile of its own
    if (blocks_.is_object(node)) {
      add_to(groups[blocks_.type(node)], node);
    } else {
      raw.push_back(node);
    }
  };
  if (point == kNoNode) {
    std::for_each(retained_.top.begin(), retained_.top.end(), add);
  } else {
    raw.push_back(point);
    for (std::size_t at = 0; at < raw.size() && at < kMostLooked; ++at) {
      const auto row = retained_.children.row(raw[at]);
      std::for_each(row.begin(), row.end(), add);
    }
  }
  std::vector<PileItems> found;
  for (auto& [type, group] : groups) {
    if (group.count < kManyItems || group.retained_bytes < least_bytes || !is_in_use(group)) continue;
    if (point == kNoNode && !is_instance(type) && !is_container(type)) continue;
    found.push_back({graph_.type_name(group.example), type, std::move(group)});
  }
  return found;
}

Ways PileFinder::ways_to(const Group& group) {
  const std::vector<NodeId> members = samples(group);
  std::vector<NodeId> holders;
  std::vector<std::string> edges;
  std::vector<NodeId> held;
  for (const NodeId member : members) {
    std::size_t seen = 0;
    for (const NodeId holder : graph_.in().row(member)) {
      if (!blocks_.is_object(holder) || paths.parent(holder) == kNoNode || ++seen > kMostHolders) continue;
      holders.push_back(holder);
      edges.push_back(is_container(blocks_.type(holder)) ? "[...]" : paths.edge(holder, member));
      held.push_back(member);
    }
  }
  const MergedHolders merged = merge_holders(process_, graph_, holders, values_shown_, findings_);
  std::map<std::string, std::vector<NodeId>> by_text;
  for (std::size_t i = 0; i < holders.size(); ++i)
    by_text[join_edges({merged.ways[merged.way_of[i]], edges[i]})].push_back(held[i]);
  std::erase_if(by_text, [&](const auto& way) { return way.second.size() < (members.size() + 1) / 2; });
  std::vector<std::pair<std::string, std::vector<NodeId>>> most(by_text.begin(), by_text.end());
  std::stable_sort(most.begin(), most.end(),
                   [](const auto& a, const auto& b) { return a.second.size() > b.second.size(); });
  Ways ways{{}, most.empty() ? group.example : most.front().second.front()};
  for (std::size_t i = 0; i < std::min(most.size(), kShownWays); ++i) ways.texts.push_back(most[i].first);
  return ways;
}

PileItems PileFinder::items(const Pile& pile) const {
  PileItems best;
  std::vector<NodeId> from{pile.point};
  for (int depth = 0; depth < kMaxNested; ++depth) {
    PileItems below = largest_group(from);
    if (below.group.retained_bytes < pile.bytes / 100 * kItemsPercent) break;
    if (depth > 0 && !is_instance(below.type_id)) break;
    best = std::move(below);
    if (!is_container(best.type_id)) break;
    from = best.group.members;
  }
  best.group.members.clear();
  return best;
}

Owner PileFinder::owner(NodeId node, const HolderPath& path) const {
  Owner owner = nearest_owner(node, path);
  owner.outlives_calls = path.root != RootKind::kFrame && path.root != RootKind::kStack &&
                         std::none_of(path.steps.begin(), path.steps.end(),
                                      [this](const PathStep& step) { return is_call(kind_at(step.node)); });
  return owner;
}

Owner PileFinder::nearest_owner(NodeId node, const HolderPath& path) const {
  for (auto step = path.steps.rbegin(); step != path.steps.rend(); ++step) {
    const Kind kind = kind_at(step->node);
    if (kind == Kind::kLruCache) return {Owner::Kind::kLruCache, step->node, false};
    if (step->node == node) continue;
    if (kind == Kind::kTraceback) return {Owner::Kind::kTraceback, step->node, false};
    if (kind == Kind::kType || kind == Kind::kClassicClass) return {Owner::Kind::kClass, step->node, false};
    if (kind == Kind::kModule) return {Owner::Kind::kModule, step->node, false};
    if (kind != Kind::kDict || !HolderPaths::leads_to_names(step->edge))
      return {Owner::Kind::kOther, step->node, false};
  }
  return {path.root == RootKind::kFrame ? Owner::Kind::kFrame : Owner::Kind::kOther, kNoNode, false};
}

bool PileFinder::is_namespace(NodeId node) {
  node = object_above(node);
  if (node == kNoNode) return true;
  if (names_things(kind_at(node))) return true;
  const NodeId parent = paths.parent(node);
  if (kind_at(node) != Kind::kDict || parent == kNoNode) return false;
  if (parent == node) return HolderPaths::leads_to_names(paths.root_text(node));
  return names_things(kind_at(parent)) && HolderPaths::leads_to_names(paths.edge(parent, node));
}

bool PileFinder::is_container(TypeId type) const {
  if (type == kNoType) return false;
  const Kind kind = graph_.census.types->info(type).kind;
  return kind == Kind::kDict || kind == Kind::kOrderedDict || kind == Kind::kDefaultDict || kind == Kind::kList ||
         kind == Kind::kTuple || kind == Kind::kSet || kind == Kind::kDeque;
}

std::uint64_t PileFinder::entries(NodeId node) const {
  if (kind_at(node) != Kind::kDict && kind_at(node) != Kind::kDefaultDict && kind_at(node) != Kind::kOrderedDict)
    return 0;
  const Field& used = process_.runtime()->traits.layout->PyDictObject.ma_used;
  std::uint64_t count = 0;
  Reader reader(process_.snapshot.space);
  return used.present() && reader.try_load(blocks_.address(node) + used.offset, count) ? count : 0;
}

std::string PileFinder::maxsize(NodeId cache) {
  for (const ValuePart& field : values_.describe(blocks_.address(cache)).fields) {
    if (field.name == "maxsize") return field.text;
  }
  return "?";
}

std::string PileFinder::kept_by_keys(NodeId dict) {
  ContainerReader containers(reader_, process_.runtime()->traits, 1);
  const Items items = containers.dict(blocks_.address(dict));
  const NodeId key = items.items.empty() ? kNoNode : blocks_.find_object(items.items[0].key);
  if (key == kNoNode) return "";
  for (const NodeId part : graph_.out.row(key)) {
    if (blocks_.is_object(part) && is_instance(blocks_.type(part))) return graph_.type_name(part);
  }
  return "";
}

std::uint64_t PileFinder::tracebacks_hold(const Pile& pile) const {
  std::uint64_t bytes = 0;
  std::vector<std::pair<NodeId, int>> pending{{pile.point, 0}};
  for (std::size_t at = 0; at < pending.size() && at < kMostLooked; ++at) {
    const auto [node, depth] = pending[at];
    for (const NodeId child : retained_.children.row(node)) {
      if (blocks_.is_object(child) && kind_at(child) == Kind::kTraceback) {
        bytes += retained_.bytes[child];
      } else if (depth < kMaxNested) {
        pending.emplace_back(child, depth + (blocks_.is_object(child) ? 1 : 0));
      }
    }
  }
  return bytes;
}

PileFinder::Large PileFinder::large_in(NodeId node, std::uint64_t least_bytes) const {
  Large large;
  for (const NodeId child : retained_.children.row(node)) {
    if (retained_.bytes[child] < least_bytes) continue;
    if (large.nodes.empty() || retained_.bytes[child] > retained_.bytes[large.largest]) large.largest = child;
    large.nodes.push_back(child);
    large.bytes += retained_.bytes[child];
  }
  return large;
}

void PileFinder::follow(NodeId start, std::uint64_t least_bytes, std::vector<NodeId>& pending,
                        std::vector<Pile>& found) {
  std::vector<NodeId> beside;
  std::vector<Pile> on_the_way;
  std::vector<TypeId> types;
  NodeId at = start;
  for (int steps = 0; steps < kMaxWay; ++steps) {
    const bool is_instance_dict = kind_at(at) == Kind::kDict && !types.empty() && is_instance(types.back());
    if (blocks_.is_object(at) && !is_instance_dict) types.push_back(blocks_.type(at));
    Large large = large_in(at, least_bytes);
    const std::uint64_t bytes = retained_.bytes[at];
    const std::uint64_t most = bytes / 100 * kMostPercent;
    const bool goes_on = !large.nodes.empty() && retained_.bytes[large.largest] >= most;
    const bool parts = !large.nodes.empty() &&
                       (is_namespace(at) || (!goes_on && large.bytes >= most &&
                                             std::none_of(large.nodes.begin(), large.nodes.end(),
                                                          [&](NodeId node) { return is_one_of(types, node); })));
    const bool ends = !parts && !goes_on;
    const std::uint64_t rest = ends ? bytes : bytes - large.bytes;
    if (rest >= least_bytes) on_the_way.push_back({at, object_above(at), rest});
    if (!parts && goes_on) std::erase(large.nodes, large.largest);
    if (!ends) beside.insert(beside.end(), large.nodes.begin(), large.nodes.end());
    if (parts || ends) {
      found.insert(found.end(), on_the_way.begin(), on_the_way.end());
      pending.insert(pending.end(), beside.begin(), beside.end());
      return;
    }
    at = large.largest;
  }
  found.push_back({start, object_above(start), retained_.bytes[start], true});
}

void PileFinder::add_to(Group& group, NodeId node) const {
  ++group.count;
  group.retained_bytes += retained_.bytes[node];
  group.example = node;
  group.members.push_back(node);
}

std::vector<NodeId> PileFinder::samples(const Group& group) {
  std::vector<NodeId> some;
  const std::size_t step = std::max<std::size_t>(group.members.size() / kSamples, 1);
  for (std::size_t i = 0; i < group.members.size() && some.size() < kSamples; i += step)
    some.push_back(group.members[i]);
  return some;
}

bool PileFinder::is_in_use(const Group& group) const {
  std::size_t held = 0;
  const std::vector<NodeId> some = samples(group);
  for (NodeId node : some) {
    for (int steps = 0; steps < kMaxWay && paths.parent(node) != kNoNode && paths.parent(node) != node; ++steps)
      node = paths.parent(node);
    const RootWord* root = paths.root(node);
    held += root == nullptr || root->kind < RootKind::kUnexplained ? 1 : 0;
  }
  return held > some.size() / 2;
}

PileItems PileFinder::largest_group(const std::vector<NodeId>& from) const {
  std::map<std::string, Group> groups;
  std::vector<NodeId> pending = from;
  for (std::size_t at = 0; at < pending.size() && at < kMostLooked; ++at) {
    for (const NodeId child : retained_.children.row(pending[at])) {
      if (!blocks_.is_object(child)) {
        pending.push_back(child);
        continue;
      }
      add_to(groups[graph_.type_name(child)], child);
    }
  }
  const auto most = std::max_element(groups.begin(), groups.end(), [](const auto& a, const auto& b) {
    return a.second.retained_bytes < b.second.retained_bytes;
  });
  if (most == groups.end()) return {};
  return {most->first, blocks_.type(most->second.example), std::move(most->second)};
}

}  // namespace heapcore
