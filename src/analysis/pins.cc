#include "analysis/pins.h"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

#include "analysis/merged_paths.h"
#include "analysis/pinned_pages.h"
#include "pyobj/mimalloc.h"

namespace heapcore {
namespace {

// A container that dominates more than this is no part of a thing, but a collection of things.
constexpr std::size_t kMostParts = 32;
constexpr int kMostSteps = 32;
constexpr std::uint32_t kNone = ~std::uint32_t{0};
constexpr const char* kFreeList = "a free list of the interpreter";
constexpr std::uint64_t kMiSliceBytes = 64 << 10;

// An arena, a page of mimalloc's, or one of malloc's.
struct Pinned {
  AddrRange range;
  MapAllocator allocator = MapAllocator::kObmalloc;
  std::uint64_t live_bytes = 0;
};

class PinFinder {
 public:
  PinFinder(const Process& process, const Holders& holders, const FragmentationMap& map, const PinsOptions& options,
            Findings& findings)
      : process_(process),
        graph_(holders.graph),
        retained_(holders.retained),
        map_(map),
        options_(options),
        findings_(findings),
        reader_(process.snapshot.space),
        types_(*holders.graph.census.types) {}

  PinsAnswer run() {
    answer_.below_percent = options_.below_percent;
    find_sparse_arenas();
    find_sparse_mi_pages();
    find_pinned_pages();
    std::sort(pinned_.begin(), pinned_.end(),
              [](const Pinned& a, const Pinned& b) { return a.range.start < b.range.start; });
    for (std::uint32_t i = 0; i < pinned_.size(); ++i) find_blocks(i);
    group();
    std::sort(answer_.pins.begin(), answer_.pins.end(), [](const PinGroup& a, const PinGroup& b) {
      return std::tie(b.kept_bytes, b.alone_bytes, b.bytes, a.type, a.held_by, a.allocator) <
             std::tie(a.kept_bytes, a.alone_bytes, a.bytes, b.type, b.held_by, b.allocator);
    });
    answer_.pins_count = answer_.pins.size();
    if (options_.limit != 0) answer_.pins.resize(std::min(answer_.pins.size(), options_.limit));
    return std::move(answer_);
  }

 private:
  struct Share {
    std::uint32_t pinned = 0;  // index
    NodeId holder = kNoNode;   // the object that a block there is part of
    std::uint64_t bytes = 0;
  };

  PinTotals& totals_of(MapAllocator allocator) {
    for (PinTotals& totals : answer_.allocators) {
      if (totals.allocator == allocator) return totals;
    }
    answer_.allocators.emplace_back();
    answer_.allocators.back().allocator = allocator;
    return answer_.allocators.back();
  }

  void add_pinned(MapAllocator allocator, AddrRange range, std::uint64_t live_bytes) {
    pinned_.push_back({range, allocator, live_bytes});
    PinTotals& totals = totals_of(allocator);
    ++totals.arenas;
    totals.bytes += range.size_bytes();
    totals.live_bytes += live_bytes;
    totals.kept_bytes += range.size_bytes() - live_bytes;
  }

  void find_sparse_arenas() {
    for (const MapArena& arena : map_.arenas) {
      const bool sparse = arena.live_share() * 100 < options_.below_percent;
      if (arena.allocator != MapAllocator::kObmalloc || arena.live_bytes == 0 || !sparse) continue;
      add_pinned(arena.allocator, {arena.address, arena.address + arena.bytes}, arena.live_bytes);
    }
  }

  // mimalloc gives its pages back one by one.
  void find_sparse_mi_pages() {
    if (!process_.runtime()->mimalloc) return;
    Reader reader(process_.snapshot.space);
    Findings reported_by_map;
    const std::vector<Addr> delayed = read_delayed_frees(reader, *process_.runtime(), reported_by_map);
    MiFreeBlocks free;
    for (const MiSegment& segment : read_mi_segments(reader, *process_.runtime(), reported_by_map)) {
      for (const MiPage& page : segment.pages) {
        read_free_blocks(reader, page, delayed, free, reported_by_map);
        const std::uint64_t live_bytes = (page.capacity - free.count) * page.block_bytes;
        const Addr start = align_down(page.first_block, kMiSliceBytes);
        if (live_bytes != 0 && live_bytes * 100 < page.span_bytes * options_.below_percent)
          add_pinned(MapAllocator::kMimalloc, {start, start + page.span_bytes}, live_bytes);
      }
    }
  }

  void find_pinned_pages() {
    const Heap* heap = process_.heap();
    if (heap == nullptr) return;
    Reader reader(process_.snapshot.space);
    Findings reported_by_map;
    for (const Region& region : heap->regions) {
      for (const PinnedPage& page : pinned_pages(*heap, reader, region, options_.below_percent, reported_by_map))
        add_pinned(MapAllocator::kMalloc, page.range, page.live_bytes);
    }
  }

  // The blocks that lie in it, by binary search in both halves of the table, each of which is by address.
  void find_blocks(std::uint32_t index) {
    const BlockTable& blocks = graph_.blocks;
    const Pinned& pinned = pinned_[index];
    for (const auto& [first, last] : {std::pair(NodeId{0}, blocks.objects()), {blocks.objects(), blocks.size()}}) {
      NodeId low = first;
      NodeId high = last;
      while (low < high) {
        const NodeId middle = low + (high - low) / 2;
        if (blocks.address(middle) < pinned.range.start) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      if (low > first) --low;  // it may reach into the range from before
      for (; low < last && block_start(low, pinned.allocator) < pinned.range.end; ++low) add_block(index, low);
    }
  }

  Addr block_start(NodeId node, MapAllocator allocator) const {
    Addr start = graph_.blocks.address(node);
    if (graph_.blocks.is_object(node)) start -= graph_.briefs[graph_.blocks.type(node)].header_bytes;
    return allocator == MapAllocator::kMalloc ? start - kChunkHeaderBytes : start;
  }

  void add_block(std::uint32_t index, NodeId node) {
    const Pinned& pinned = pinned_[index];
    const Addr start = block_start(node, pinned.allocator);
    const Addr end = start + graph_.blocks.bytes(node);
    if (end <= pinned.range.start || end < start) return;
    const std::uint64_t bytes = std::min(end, pinned.range.end) - std::max(start, pinned.range.start);
    shares_.push_back({index, whole_of(node), bytes});
    const bool seen_before =
        start < pinned.range.start && index != 0 && pinned_[index - 1].range.end == pinned.range.start;
    if (!seen_before) ++totals_of(pinned.allocator).blocks;
  }

  // The object that a block is part of.
  NodeId whole_of(NodeId node) const {
    const DominatorTree& tree = retained_.tree;
    for (int step = 0; step < kMostSteps; ++step) {
      const bool is_object = graph_.blocks.is_object(node);
      if (is_object && stands_for_itself(node)) return node;
      const NodeId above = tree.idom[node];
      if (above >= graph_.blocks.size()) return node;
      if (is_object && (!graph_.blocks.is_object(above) || retained_.children.row(above).size() > kMostParts))
        return node;
      node = above;
    }
    return node;
  }

  bool stands_for_itself(NodeId object) const {
    const TypeInfo& type = graph_.census.types->info(graph_.blocks.type(object));
    switch (type.kind) {
      case Kind::kInstance:
      case Kind::kUnknown:
      case Kind::kType:
      case Kind::kModule:
      case Kind::kFunction:
        return true;
      default:
        return type.is_heap_type;
    }
  }

  std::string type_name(TypeId id) const {
    const TypeInfo& info = graph_.census.types->info(id);
    return info.module.empty() ? info.name : info.module + "." + info.name;
  }

  // What is on a free list of the interpreter's is no object, but still says of which type it was: its count is 0, or
  // from 3.14 on the link to the next. kNoType for other raw blocks.
  TypeId freed_type(NodeId raw) {
    const PyTraits& traits = process_.runtime()->traits;
    const auto& fields = traits.layout->PyObject;
    for (const std::uint32_t offset : {0U, traits.gc_head_bytes(), traits.gc_head_bytes() + 16}) {
      Addr count = 0;
      Addr type_address = 0;
      const Addr object = graph_.blocks.address(raw) + offset;
      if (graph_.blocks.bytes(raw) < offset + traits.layout->PyObject.size_bytes) break;
      if (!reader_.try_load(object + fields.ob_refcnt.offset, count) ||
          !reader_.try_load(object + fields.ob_type.offset, type_address))
        break;
      if (count != 0 && graph_.blocks.find_raw(count - offset) == kNoBlock) continue;
      const TypeBrief& type = types_.lookup(type_address);
      if (type.id != kNoType && type.header_bytes == offset) return type.id;
    }
    return kNoType;
  }

  // An object that blocks are part of, and in which group it is, by allocator.
  struct Member {
    NodeId holder = kNoNode;
    TypeId freed = kNoType;  // freed_type()
    std::uint32_t way = kNone;
    std::array<std::uint32_t, kMapAllocators> groups = {kNone, kNone, kNone};
  };

  // By allocator, type and path; then what each group keeps, by arena.
  void group() {
    std::vector<Member> members = list_members();
    std::vector<std::pair<std::uint32_t, std::uint32_t>> pairs;  // (arena, group)
    for (const Share& share : shares_) {
      Member& member = *std::lower_bound(members.begin(), members.end(), share.holder,
                                         [](const Member& m, NodeId holder) { return m.holder < holder; });
      const MapAllocator allocator = pinned_[share.pinned].allocator;
      std::uint32_t& group = member.groups[static_cast<std::size_t>(allocator)];
      if (group == kNone) {
        group = group_of(allocator, member);
        PinGroup& pin = answer_.pins[group];
        ++pin.count;
        pin.objects.push_back(graph_.blocks.address(member.holder));
      }
      answer_.pins[group].bytes += share.bytes;
      pairs.emplace_back(share.pinned, group);
    }
    for (PinGroup& pin : answer_.pins) {
      std::sort(pin.objects.begin(), pin.objects.end());
      if (options_.objects_limit != 0) pin.objects.resize(std::min(pin.objects.size(), options_.objects_limit));
    }
    add_arenas(std::move(pairs));
  }

  // By holder; fills ways_.
  std::vector<Member> list_members() {
    std::vector<NodeId> holders;
    for (const Share& share : shares_) holders.push_back(share.holder);
    std::sort(holders.begin(), holders.end());
    holders.erase(std::unique(holders.begin(), holders.end()), holders.end());
    MergedHolders merged = merge_holders(process_, graph_, holders, options_.values, findings_);
    ways_ = std::move(merged.ways);
    std::vector<Member> members(holders.size());
    for (std::size_t i = 0; i < holders.size(); ++i) {
      members[i].holder = holders[i];
      members[i].freed = graph_.blocks.is_object(holders[i]) ? kNoType : freed_type(holders[i]);
      members[i].way = members[i].freed != kNoType ? kNone : merged.way_of[i];
    }
    return members;
  }

  std::uint32_t group_of(MapAllocator allocator, const Member& member) {
    const bool is_freed = member.freed != kNoType;
    std::string type = is_freed ? "freed " + type_name(member.freed) : graph_.type_name(member.holder);
    const auto [entry, is_new] =
        numbers_.try_emplace({allocator, type, member.way}, static_cast<std::uint32_t>(answer_.pins.size()));
    if (is_new) {
      answer_.pins.emplace_back();
      answer_.pins.back().allocator = allocator;
      answer_.pins.back().type = std::move(type);
      answer_.pins.back().held_by = is_freed ? kFreeList : ways_[member.way];
    }
    return entry->second;
  }

  void add_arenas(std::vector<std::pair<std::uint32_t, std::uint32_t>> pairs) {
    std::sort(pairs.begin(), pairs.end());
    pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
    for (std::size_t i = 0; i < pairs.size();) {
      std::size_t end = i;
      while (end < pairs.size() && pairs[end].first == pairs[i].first) ++end;
      const Pinned& pinned = pinned_[pairs[i].first];
      const std::uint64_t kept = pinned.range.size_bytes() - pinned.live_bytes;
      for (std::size_t k = i; k < end; ++k) {
        PinGroup& pin = answer_.pins[pairs[k].second];
        ++pin.arenas;
        pin.kept_bytes += kept;
        if (end - i != 1) continue;
        ++pin.alone_in;
        pin.alone_bytes += kept;
      }
      i = end;
    }
  }

  const Process& process_;
  const HeapGraph& graph_;
  const Retained& retained_;
  const FragmentationMap& map_;
  const PinsOptions& options_;
  Findings& findings_;
  Reader reader_;
  TypeCache types_;
  std::vector<Pinned> pinned_;                                                             // by address
  std::vector<Share> shares_;                                                              // by arena
  std::vector<std::string> ways_;                                                          // of merge_holders()
  std::map<std::tuple<MapAllocator, std::string, std::uint32_t>, std::uint32_t> numbers_;  // of the groups
  PinsAnswer answer_;
};

}  // namespace

PinTotals PinsAnswer::total() const {
  PinTotals sum;
  for (const PinTotals& totals : allocators) {
    sum.arenas += totals.arenas;
    sum.bytes += totals.bytes;
    sum.kept_bytes += totals.kept_bytes;
    sum.live_bytes += totals.live_bytes;
    sum.blocks += totals.blocks;
  }
  return sum;
}

PinsAnswer find_pins(const Process& process, const Holders& holders, const FragmentationMap& map,
                     const PinsOptions& options, Findings& findings) {
  return PinFinder(process, holders, map, options, findings).run();
}

}  // namespace heapcore
