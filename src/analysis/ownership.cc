#include "analysis/ownership.h"

#include <algorithm>
#include <unordered_map>

namespace heapcore {
namespace {

// Of its siblings of one type an object that retains at least this part stands alone.
constexpr std::uint64_t kAlonePart = 8;

// Objects of one type that stand below one node of the picture.
struct Group {
  std::uint32_t index = 0;  // of that node
  std::uint32_t level = 0;
  std::uint64_t retained_bytes = 0;
  std::vector<NodeId> members;

  bool operator<(const Group& other) const {  // the largest is the first to be looked at
    return retained_bytes != other.retained_bytes ? retained_bytes < other.retained_bytes : index > other.index;
  }
};

class Picture {
 public:
  Picture(const Process& process, const Holders& holders, const OwnershipOptions& options, Findings& findings)
      : graph_(holders.graph),
        retained_(holders.retained),
        options_(options),
        paths_(process, holders.graph, options.values, findings) {
    for (const NodeId node : retained_.top) whole_ += retained_.bytes[node];
    least_ = whole_ / options.least_part;
  }

  std::vector<OwnershipNode> draw() {
    nodes_.push_back({0, "", "", 0, retained_.top.size(), 0, whole_});
    split(retained_.top, 0, 0, kNoNode);
    while (!pending_.empty() && nodes_.size() < options_.most_nodes) {
      std::pop_heap(pending_.begin(), pending_.end());
      const Group group = std::move(pending_.back());
      pending_.pop_back();
      std::vector<NodeId> children;
      for (const NodeId member : group.members) {
        for (const NodeId child : retained_.children.row(member)) {
          if (is_buffer(child)) {
            nodes_[group.index].bytes += retained_.bytes[child];
          } else {
            children.push_back(child);
          }
        }
      }
      if (group.level < options_.most_levels) {
        split(children, group.index, group.level, group.members.size() == 1 ? group.members[0] : kNoNode);
      } else {
        leave_out(children.size(), group.index, group.retained_bytes - nodes_[group.index].bytes);
      }
    }
    for (const Group& group : pending_) settle(group);
    return std::move(nodes_);
  }

 private:
  bool is_buffer(NodeId node) const { return !graph_.blocks.is_object(node) && retained_.children.row(node).empty(); }

  // Of a group for which no room is left.
  void settle(const Group& group) {
    for (const NodeId member : group.members) {
      for (const NodeId child : retained_.children.row(member)) {
        if (is_buffer(child)) nodes_[group.index].bytes += retained_.bytes[child];
      }
    }
  }

  // Makes the nodes of what stands below the node at `parent`; `holder` is its object if that is one.
  void split(const std::vector<NodeId>& members, std::uint32_t parent, std::uint32_t level, NodeId holder) {
    std::unordered_map<TypeId, Group> by_type;
    for (const NodeId member : members) {
      Group& group = by_type[graph_.blocks.is_object(member) ? graph_.blocks.type(member) : kNoType];
      group.retained_bytes += retained_.bytes[member];
      group.members.push_back(member);
    }
    std::vector<Group> groups;
    std::uint64_t small_count = 0;
    std::uint64_t small_bytes = 0;
    const auto leave = [&](const Group& group) {
      small_count += group.members.size();
      small_bytes += group.retained_bytes;
    };
    for (auto& [type, group] : by_type) {
      if (group.retained_bytes < least_ || group.retained_bytes == 0) {
        leave(group);
        continue;
      }
      Group rest;
      for (const NodeId member : group.members) {
        const std::uint64_t bytes = retained_.bytes[member];
        if (bytes >= least_ && bytes >= group.retained_bytes / kAlonePart) {
          groups.push_back({0, 0, bytes, {member}});
        } else {
          rest.retained_bytes += bytes;
          rest.members.push_back(member);
        }
      }
      if (rest.retained_bytes >= least_ && !rest.members.empty()) {
        groups.push_back(std::move(rest));
      } else {
        leave(rest);
      }
    }
    std::sort(groups.begin(), groups.end(), [&](const Group& a, const Group& b) {
      return a.retained_bytes != b.retained_bytes ? a.retained_bytes > b.retained_bytes : a.members[0] < b.members[0];
    });
    for (Group& group : groups) {
      if (nodes_.size() >= options_.most_nodes) {
        leave(group);
        continue;
      }
      group.index = static_cast<std::uint32_t>(nodes_.size());
      group.level = level + 1;
      nodes_.push_back(describe(group, parent, holder));
      pending_.push_back(std::move(group));
      std::push_heap(pending_.begin(), pending_.end());
    }
    leave_out(small_count, parent, small_bytes);
  }

  void leave_out(std::uint64_t count, std::uint32_t parent, std::uint64_t bytes) {
    if (count != 0) nodes_.push_back({parent, "", "", 0, count, 0, bytes});
  }

  OwnershipNode describe(const Group& group, std::uint32_t parent, NodeId holder) {
    NodeId largest = group.members[0];
    OwnershipNode node{parent, "", "", 0, group.members.size(), 0, group.retained_bytes};
    for (const NodeId member : group.members) {
      node.bytes += graph_.blocks.bytes(member);
      if (retained_.bytes[member] > retained_.bytes[largest]) largest = member;
    }
    node.type = graph_.type_name(largest);
    node.address = graph_.blocks.address(largest);
    if (group.members.size() == 1) {
      if (parent == 0) {
        node.edge = paths_.path(largest).text();
      } else if (holder != kNoNode) {
        node.edge = edge(holder, largest, HolderPaths::leads_to_names(nodes_[parent].edge));
      }
    }
    return node;
  }

  // Empty where the holder does not refer to it itself, but through something that it dominates as well.
  std::string edge(NodeId holder, NodeId node, bool keys_are_names) {
    const std::string text = paths_.edge(holder, node, keys_are_names);
    if (text == "?") return "";
    const bool is_name = keys_are_names && text.starts_with("['") && text.ends_with("']");
    return is_name ? "." + text.substr(2, text.size() - 4) : text;
  }

  const HeapGraph& graph_;
  const Retained& retained_;
  const OwnershipOptions& options_;
  HolderPaths paths_;
  std::uint64_t whole_ = 0;
  std::uint64_t least_ = 0;
  std::vector<OwnershipNode> nodes_;
  std::vector<Group> pending_;  // a heap, the largest first
};

}  // namespace

std::vector<OwnershipNode> find_ownership(const Process& process, const Holders& holders,
                                          const OwnershipOptions& options, Findings& findings) {
  return Picture(process, holders, options, findings).draw();
}

}  // namespace heapcore
