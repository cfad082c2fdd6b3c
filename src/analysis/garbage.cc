#include "analysis/garbage.h"

#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string_view>
#include <unordered_map>

#include "pyobj/gc_lists.h"
#include "pyobj/refcounts.h"
#include "pyobj/references.h"

namespace heapcore {
namespace {

constexpr std::size_t kPart = 1 << 14;

class Collector {
 public:
  Collector(const Process& process, const HeapGraph& graph, Findings& findings)
      : process_(process),
        runtime_(*process.runtime()),
        graph_(graph),
        blocks_(graph.blocks),
        findings_(findings),
        looked_at_(blocks_.objects()),
        live_(blocks_.objects()),
        visited_(new std::atomic<std::uint32_t>[blocks_.objects()]()) {
    for (NodeId object = 0; object < blocks_.objects(); ++object) looked_at_[object] = blocks_.tracked(object);
    leave_out_frozen();
    if (runtime_.traits.gc_head == GcHead::kNone) leave_out_untracked();
  }

  Garbage run() {
    count_visits();
    mark_live();
    for (NodeId object = 0; object < blocks_.objects(); ++object) {
      if (looked_at_[object] && !live_[object]) garbage_.objects.push_back(object);
    }
    count_generations();
    return std::move(garbage_);
  }

 private:
  ReferenceReader reader() const { return {process_.snapshot, runtime_, *graph_.census.types}; }

  void leave_out_frozen() {
    Reader memory(process_.snapshot.space);
    if (runtime_.traits.gc_head == GcHead::kNone) return leave_out_marked_frozen(memory);
    for (const GcListHead& head : gc_list_heads(runtime_)) {
      if (!head.permanent) continue;
      walk_gc_list(memory, runtime_.traits, head.address, blocks_.objects() + std::uint64_t{1}, findings_,
                   [&](Addr node) {
                     const NodeId object = blocks_.find_object(node + runtime_.traits.gc_head_bytes());
                     if (object == kNoBlock || !looked_at_[object]) return;
                     looked_at_[object] = false;
                     ++garbage_.frozen;
                   });
    }
  }

  void leave_out_marked_frozen(Reader& memory) {
    const Field& bits_at = runtime_.traits.layout->PyObject.ob_gc_bits;
    for (NodeId object = 0; object < blocks_.objects(); ++object) {
      std::uint8_t bits = 0;
      if (!looked_at_[object] || !memory.try_load(blocks_.address(object) + bits_at.offset, bits) ||
          (bits & gc_bit::kFrozen) == 0)
        continue;
      looked_at_[object] = false;
      ++garbage_.frozen;
    }
  }

  // Before it looks for garbage, a collector without the GIL takes off what holds nothing that it looks at: tuples, and
  // in 3.13 dicts. It meets the blocks of a size together.
  void leave_out_untracked() {
    std::vector<NodeId> candidates;
    for (NodeId object = 0; object < blocks_.objects(); ++object) {
      const bool may_be = is_exact(object, "tuple") || (runtime_.traits.gc_untracks_dicts && is_exact(object, "dict"));
      if (looked_at_[object] && may_be) candidates.push_back(object);
    }
    std::stable_sort(candidates.begin(), candidates.end(),
                     [this](NodeId a, NodeId b) { return blocks_.bytes(a) < blocks_.bytes(b); });
    ReferenceReader references = reader();
    Reader memory(process_.snapshot.space);
    for (const NodeId object : candidates) {
      const std::span<const std::byte> bytes =
          memory.span(blocks_.address(object), runtime_.traits.layout->PyObject.size_bytes);
      if (bytes.empty() || is_deferred(runtime_.traits, bytes)) continue;
      bool holds_any = false;
      const auto visit = [&](Addr target, RefKind kind, const EdgeName&) {
        holds_any = holds_any || ((kind == RefKind::kVisited || kind == RefKind::kOwned) && may_be_tracked(target));
      };
      const ObjectView view = graph_.view(object);
      references.for_each(view, visit, blocks_.end_of(view, object));
      if (!holds_any) looked_at_[object] = false;
    }
  }

  const TypeInfo& info(NodeId object) const { return graph_.census.types->info(blocks_.type(object)); }
  bool is_exact(NodeId object, std::string_view name) const {
    return info(object).name == name && info(object).module == runtime_.traits.builtins_module;
  }

  // Static objects are not the collector's.
  bool may_be_tracked(Addr target) const {
    const NodeId object = blocks_.find_object(target);
    if (object == kNoBlock || blocks_.bytes(object) == 0 || !info(object).has_gc()) return false;
    return !is_exact(object, "tuple") || looked_at_[object];
  }

  // While a collection runs, it has taken the lists apart.
  void count_generations() {
    if (std::ranges::any_of(runtime_.interpreters, &Interpreter::gc_collecting)) return;
    Reader memory(process_.snapshot.space);
    for (const GcListHead& head : gc_list_heads(runtime_)) {
      if (head.permanent) continue;
      const auto place = static_cast<std::size_t>(head.generation);
      if (garbage_.generations.size() <= place) garbage_.generations.resize(place + 1);
      Generation& generation = garbage_.generations[place];
      walk_gc_list(memory, runtime_.traits, head.address, blocks_.objects() + std::uint64_t{1}, findings_,
                   [&](Addr node) {
                     const NodeId object = blocks_.find_object(node + runtime_.traits.gc_head_bytes());
                     ++generation.tracked;
                     if (object != kNoBlock && looked_at_[object] && !live_[object]) ++generation.garbage;
                   });
    }
  }

  // Of what nobody describes, the words that were taken for references.
  template <typename Visit>
  void for_each_visited(ReferenceReader& references, NodeId node, Visit&& visit) {
    const auto visit_object = [&](Addr target, RefKind kind, const EdgeName& name) {
      if (kind != RefKind::kVisited) return;
      const NodeId to = blocks_.find_object(target);
      if (to != kNoBlock && looked_at_[to]) visit(to, name.is_counted());
    };
    const ObjectView view = graph_.view(node);
    references.for_each(view, visit_object, blocks_.end_of(view, node));
    const auto& words = graph_.conservative;
    for (auto at = std::lower_bound(words.begin(), words.end(), std::pair<NodeId, NodeId>{node, 0});
         at != words.end() && at->first == node; ++at) {
      if (blocks_.is_object(at->second) && looked_at_[at->second]) visit(at->second, true);
    }
  }

  void count_visits() {
    tbb::enumerable_thread_specific<ReferenceReader> readers([this] { return reader(); });
    const std::size_t parts = (blocks_.objects() + kPart - 1) / kPart;
    tbb::parallel_for(std::size_t{0}, parts, [&](std::size_t part) {
      ReferenceReader& references = readers.local();
      const std::size_t end = std::min<std::size_t>(blocks_.objects(), (part + 1) * kPart);
      for (std::size_t node = part * kPart; node < end; ++node) {
        if (!looked_at_[node]) continue;
        for_each_visited(references, static_cast<NodeId>(node), [&](NodeId to, bool counted) {
          if (counted) visited_[to].fetch_add(1, std::memory_order_relaxed);
        });
      }
    });
  }

  void mark_live() {
    Reader memory(process_.snapshot.space);
    const std::unordered_map<Addr, std::int64_t> by_threads = counts_by_threads(memory, runtime_);
    const std::uint32_t head_bytes = runtime_.traits.layout->PyObject.size_bytes;
    for (NodeId object = 0; object < blocks_.objects(); ++object) {
      if (!looked_at_[object]) continue;
      const std::span<const std::byte> bytes = memory.span(blocks_.address(object), head_bytes);
      std::int64_t count = bytes.empty() ? 0 : reference_count(runtime_.traits, bytes);
      if (const auto more = by_threads.find(blocks_.address(object)); more != by_threads.end()) count += more->second;
      if (count > std::int64_t{visited_[object].load(std::memory_order_relaxed)}) mark(object);
    }
    // What frames borrow, and objects whose counting is deferred, they hold without counting.
    for (const RootRef& root : graph_.roots) {
      if (root.word.kind == RootKind::kFrame && blocks_.is_object(root.target)) mark(root.target);
    }
    ReferenceReader references = reader();
    while (!pending_.empty()) {
      const NodeId from = pending_.back();
      pending_.pop_back();
      for_each_visited(references, from, [&](NodeId to, bool) { mark(to); });
    }
  }

  void mark(NodeId object) {
    if (live_[object] || !looked_at_[object]) return;
    live_[object] = true;
    pending_.push_back(object);
  }

  const Process& process_;
  const PyRuntime& runtime_;
  const HeapGraph& graph_;
  const BlockTable& blocks_;
  Findings& findings_;
  std::vector<bool> looked_at_;  // by object: the collector does
  std::vector<bool> live_;
  std::unique_ptr<std::atomic<std::uint32_t>[]> visited_;  // by object: how many visits lead to it
  std::vector<NodeId> pending_;
  Garbage garbage_;
};

}  // namespace

Garbage uncollected_garbage(const Process& process, const HeapGraph& graph, Findings& findings) {
  return Collector(process, graph, findings).run();
}

}  // namespace heapcore
