#include "analysis/heap_graph.h"

#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <memory>

#include "analysis/borrowed.h"
#include "analysis/components.h"
#include "pyobj/refcounts.h"
#include "pyobj/references.h"

namespace heapcore {
namespace {

// Dicts below this are not looked at as candidates for the table of interned strings.
constexpr std::uint32_t kLeastInterned = 64;
// A count that no number of references explains.
constexpr std::int64_t kImmortalCount = std::int64_t{1} << 29;
// The allocator's debug hooks put so much before what their caller gets; at most twice.
constexpr std::uint64_t kDebugHeaderBytes = 16;

class Linker {
 public:
  Linker(const Process& process, HeapGraph& graph, Progress& progress, Findings& findings)
      : process_(process),
        runtime_(*process.runtime()),
        graph_(graph),
        blocks_(graph.blocks),
        progress_(progress),
        findings_(findings),
        rows_((blocks_.size() + Rows::kBlockNodes - 1) >> Rows::kBlockBits),
        words_(rows_.size()),
        references_(new std::atomic<std::uint32_t>[blocks_.objects()]()),
        understood_(new std::atomic<bool>[blocks_.size() - blocks_.objects()]()),
        roots_(process, *graph.census.types) {}

  void run() {
    progress_.begin("link", blocks_.size());
    link_objects();
    drop_interned();
    settle_counts();
    find_roots();
    graph_.out = Rows::from_blocks(blocks_.size(), std::move(rows_));
    graph_.in = graph_.out.reversed();
    finish_roots();
    progress_.end();
  }

 private:
  using Edge = std::pair<NodeId, NodeId>;

  static constexpr std::size_t block_of(NodeId node) { return node >> Rows::kBlockBits; }

  void link_objects() {
    tbb::enumerable_thread_specific<ReferenceReader> readers(
        [this] { return ReferenceReader(process_.snapshot, runtime_, *graph_.census.types); });
    const std::size_t count = (blocks_.objects() + Rows::kBlockNodes - 1) >> Rows::kBlockBits;
    tbb::parallel_for(std::size_t{0}, count, [&](std::size_t b) {
      const auto begin = static_cast<NodeId>(b << Rows::kBlockBits);
      const auto end =
          static_cast<NodeId>(std::min<std::uint64_t>(blocks_.objects(), std::uint64_t{begin} + Rows::kBlockNodes));
      rows_[b].degrees.reserve(end - begin);
      ReferenceReader& references = readers.local();
      for (NodeId node = begin; node < end; ++node) link_object(node, references, b);
      progress_.advance(end - begin);
    });
    for (const ReferenceReader& references : readers) findings_.merge(references.findings());
  }

  void link_object(NodeId node, ReferenceReader& references, std::size_t b) {
    Rows::Block& rows = rows_[b];
    const std::size_t before = rows.targets.size();
    const ObjectView object = graph_.view(node);
    const auto visit = [&](Addr target, RefKind kind, const EdgeName&) {
      if (kind == RefKind::kWeak) return;
      const NodeId to = kind == RefKind::kBuffer ? find_buffer(target) : blocks_.find(target);
      if (to == kNoBlock || (kind == RefKind::kConservative && to == node)) return;
      if (kind == RefKind::kConservative) {
        words_[b].emplace_back(node, to);
        return;
      }
      rows.targets.push_back(to);
      if (blocks_.is_object(to)) {
        references_[to].fetch_add(1, std::memory_order_relaxed);
      } else {
        understood_[to - blocks_.objects()].store(true, std::memory_order_relaxed);
      }
    };
    references.for_each(object, visit, blocks_.end_of(object, node));
    rows.degrees.push_back(static_cast<std::uint32_t>(rows.targets.size() - before));
  }

  NodeId find_buffer(Addr target) const {
    NodeId found = blocks_.find_raw(target);
    for (int headers = 1; found == kNoBlock && headers <= 2; ++headers)
      found = blocks_.find_raw(target - kDebugHeaderBytes * static_cast<unsigned>(headers));
    return found;
  }

  // The table of interned strings (Objects/unicodeobject.c) maps each to itself and does not count what it holds.
  void drop_interned() {
    for (Rows::Block& rows : rows_) {
      std::size_t at = 0;
      for (std::uint32_t& degree : rows.degrees) {
        if (degree < 2 * kLeastInterned || !is_interned_table(&rows.targets[at], degree)) {
          at += degree;
          continue;
        }
        const auto first = rows.targets.begin() + static_cast<std::ptrdiff_t>(at);
        const auto kept = std::remove_if(first, first + degree, [this](NodeId to) {
          if (!blocks_.is_object(to)) return false;
          references_[to].fetch_sub(1, std::memory_order_relaxed);
          return true;
        });
        rows.targets.erase(kept, first + degree);
        degree = static_cast<std::uint32_t>(kept - first);
        at += degree;
      }
    }
  }

  bool is_interned_table(const NodeId* targets, std::uint32_t degree) {
    for (std::uint32_t i = 0; i < std::min(degree & ~1U, 2 * kLeastInterned); i += 2) {
      if (targets[i] != targets[i + 1] || !blocks_.is_object(targets[i])) return false;
      const std::int64_t count = count_of(targets[i], reader_);
      if (count < kImmortalCount && count >= std::int64_t{references_[targets[i]].load()}) return false;
    }
    return true;
  }

  std::int64_t count_of(NodeId object, Reader& reader) const {
    const std::span<const std::byte> bytes =
        reader.span(blocks_.address(object), runtime_.traits.layout->PyObject.size_bytes);
    return bytes.empty() ? 0 : reference_count(runtime_.traits, bytes);
  }

  void settle_counts() {
    graph_.excess.resize(blocks_.objects());
    constexpr std::size_t kPart = std::size_t{1} << 16;
    std::vector<std::vector<NodeId>> immortal((blocks_.objects() + kPart - 1) / kPart);
    tbb::parallel_for(std::size_t{0}, immortal.size(), [&](std::size_t part) {
      Reader reader(process_.snapshot.space);
      const std::size_t end = std::min<std::size_t>(blocks_.objects(), (part + 1) * kPart);
      for (auto object = static_cast<NodeId>(part * kPart); object < end; ++object) {
        const std::int64_t count = count_of(object, reader);
        if (count >= kImmortalCount) {
          immortal[part].push_back(object);
          continue;
        }
        const std::int64_t excess = count - std::int64_t{references_[object].load(std::memory_order_relaxed)};
        graph_.excess[object] = static_cast<std::int32_t>(
            std::clamp<std::int64_t>(excess, std::numeric_limits<std::int32_t>::min(), kImmortalCount));
      }
    });
    for (const std::vector<NodeId>& part : immortal) immortal_.insert(immortal_.end(), part.begin(), part.end());
    references_.reset();
  }

  // Takes one of an object's unexplained references; whether there was one. Of a raw block, whether its contents are
  // for anybody who points to it.
  bool explain(NodeId node) {
    if (!blocks_.is_object(node)) return !understood_[node - blocks_.objects()].load(std::memory_order_relaxed);
    if (graph_.excess[node] <= 0) return false;
    --graph_.excess[node];
    return true;
  }

  // The surest first, since each takes what is left unexplained.
  void find_roots() {
    const auto admit = [this](const RootWord& word) {
      const NodeId node = blocks_.find(word.target);
      if (node != kNoBlock && explain(node)) graph_.roots.push_back({node, word});
    };
    // Looked at as what they are, so not once more as raw blocks.
    for (const Addr structure : roots_.structures()) {
      const NodeId node = find_buffer(structure);
      if (node != kNoBlock) understood_[node - blocks_.objects()].store(true, std::memory_order_relaxed);
    }
    roots_.exact([&](const RootWord& word) {
      const NodeId node = blocks_.find(word.target);
      if (node == kNoBlock) return;
      explain(node);
      graph_.roots.push_back({node, word});
    });
    roots_.evaluation_stacks(admit);
    admit_words_of_objects();
    BorrowedWords borrowed(process_, *graph_.census.types);
    roots_.words([&](const RootWord& word) {
      const NodeId node = blocks_.find(word.target);
      if (node == kNoBlock) return;
      if (blocks_.is_object(node) &&
          (graph_.excess[node] <= 0 || borrowed.is_borrowed(word, graph_.census.types->info(blocks_.type(node)))))
        return;
      if (explain(node)) graph_.roots.push_back({node, word});
    });
    link_raw_blocks();
    roots_.stacks(admit);
    findings_.merge(roots_.findings());
  }

  void admit_words_of_objects() {
    for (std::size_t b = 0; b < words_.size(); ++b) {
      std::erase_if(words_[b], [this](const Edge& edge) { return !explain(edge.second); });
      graph_.conservative.insert(graph_.conservative.end(), words_[b].begin(), words_[b].end());
      merge_edges(b);
    }
  }

  // Adds words_[b], which are by node, to the rows of that block.
  void merge_edges(std::size_t b) {
    if (words_[b].empty()) return;
    Rows::Block merged;
    merged.degrees.reserve(rows_[b].degrees.size());
    merged.targets.reserve(rows_[b].targets.size() + words_[b].size());
    auto extra = words_[b].begin();
    auto target = rows_[b].targets.begin();
    auto node = static_cast<NodeId>(b << Rows::kBlockBits);
    for (std::uint32_t degree : rows_[b].degrees) {
      merged.targets.insert(merged.targets.end(), target, target + degree);
      target += degree;
      for (; extra != words_[b].end() && extra->first == node; ++extra, ++degree)
        merged.targets.push_back(extra->second);
      merged.degrees.push_back(degree);
      ++node;
    }
    rows_[b] = std::move(merged);
    words_[b] = {};
  }

  // Words of raw blocks whose contents no object knows: found in parallel and admitted in order. Blocks that something
  // leads to go first; in others there is often what was left of a freed object.
  void link_raw_blocks() {
    const std::uint32_t first = blocks_.objects();
    constexpr std::uint32_t kPart = 1024;
    std::vector<std::vector<Edge>> parts((blocks_.size() - first + kPart - 1) / kPart);
    tbb::enumerable_thread_specific<TypeCache> types([this] { return TypeCache(*graph_.census.types); });
    tbb::parallel_for(std::size_t{0}, parts.size(), [&](std::size_t part) {
      Reader reader(process_.snapshot.space);
      const NodeId begin = first + static_cast<NodeId>(part * kPart);
      for (NodeId node = begin; node < std::min<std::uint64_t>(blocks_.size(), std::uint64_t{begin} + kPart); ++node)
        if (explain(node)) find_words(node, reader, types.local(), parts[part]);
    });
    std::vector<Edge> edges;
    for (std::vector<Edge>& part : parts) {
      edges.insert(edges.end(), part.begin(), part.end());
      part = {};
    }
    const std::vector<bool> led_to = raw_blocks_led_to(edges);
    std::vector<bool> admitted(edges.size());
    for (const bool wanted : {true, false}) {
      for (std::size_t i = 0; i < edges.size(); ++i) {
        if (led_to[edges[i].first - first] == wanted) admitted[i] = explain(edges[i].second);
      }
    }
    NodeId next = first;
    const auto close = [&](NodeId until) {
      for (; next < until; ++next) rows_[block_of(next)].degrees.push_back(0);
    };
    for (std::size_t i = 0; i < edges.size(); ++i) {
      if (!admitted[i]) continue;
      const auto& [from, to] = edges[i];
      close(from + 1);
      rows_[block_of(from)].targets.push_back(to);
      ++rows_[block_of(from)].degrees.back();
    }
    close(blocks_.size());
    progress_.advance(blocks_.size() - first);
  }

  // By raw block: does a root or an object lead to it, if only over others? `edges` are by their first.
  std::vector<bool> raw_blocks_led_to(const std::vector<Edge>& edges) const {
    const std::uint32_t first = blocks_.objects();
    std::vector<bool> led_to(blocks_.size() - first);
    std::vector<NodeId> pending;
    const auto meet = [&](NodeId node) {
      if (blocks_.is_object(node) || led_to[node - first]) return;
      led_to[node - first] = true;
      pending.push_back(node);
    };
    for (const RootRef& root : graph_.roots) meet(root.target);
    for (const Edge& edge : graph_.conservative) meet(edge.second);
    while (!pending.empty()) {
      const NodeId from = pending.back();
      pending.pop_back();
      for (auto at = std::lower_bound(edges.begin(), edges.end(), Edge(from, 0));
           at != edges.end() && at->first == from; ++at)
        meet(at->second);
    }
    return led_to;
  }

  // What is on a free list of the interpreter's is no object, though it has a type still: its count is 0, or from 3.14
  // on the link to the next. What it refers to is stale.
  bool is_freed_object(std::span<const std::byte> bytes, TypeCache& types) const {
    const std::uint32_t gc_bytes = runtime_.traits.gc_head_bytes();
    const auto& fields = runtime_.traits.layout->PyObject;
    for (const std::uint32_t offset : {0U, gc_bytes, gc_bytes + 16}) {
      if (offset + runtime_.traits.layout->PyObject.size_bytes > bytes.size()) return false;
      const Addr count = word_at(bytes, offset + fields.ob_refcnt.offset);
      if (count != 0 && blocks_.find_raw(count - offset) == kNoBlock) continue;
      const TypeBrief& type = types.lookup(word_at(bytes, offset + fields.ob_type.offset));
      if (type.id != kNoType && type.header_bytes == offset) return true;
    }
    return false;
  }

  static Addr word_at(std::span<const std::byte> bytes, std::size_t offset) {
    Addr word = 0;
    std::memcpy(&word, bytes.data() + offset, sizeof word);
    return word;
  }

  void find_words(NodeId node, Reader& reader, TypeCache& types, std::vector<Edge>& found) const {
    const std::span<const std::byte> present = reader.span_to_end(blocks_.address(node));
    const std::size_t size = align_down(std::min<std::size_t>(present.size(), blocks_.bytes(node)), sizeof(Addr));
    if (is_freed_object(present.first(size), types)) return;
    for (std::size_t at = 0; at < size; at += sizeof(Addr)) {
      const Addr word = word_at(present, at);
      const NodeId to = word == 0 ? kNoBlock : blocks_.find(word);
      if (to != kNoBlock && to != node) found.emplace_back(node, to);
    }
  }

  void finish_roots() {
    for (const NodeId object : immortal_) graph_.roots.push_back({object, {0, RootKind::kImmortal, 0, {}}});
    for (NodeId object = 0; object < blocks_.objects(); ++object) {
      if (graph_.excess[object] > 0) graph_.roots.push_back({object, {0, RootKind::kUnexplained, 0, {}}});
    }
    std::stable_sort(graph_.roots.begin(), graph_.roots.end(),
                     [](const RootRef& a, const RootRef& b) { return a.word.kind < b.word.kind; });
    is_entry_.resize(blocks_.size());
    std::vector<bool> reached(blocks_.size());
    for (const RootRef& root : graph_.roots) enter(root.target, reached);
    for (const NodeId source : source_nodes(graph_.out, find_components(graph_.out, reached))) {
      graph_.roots.push_back({source, {0, RootKind::kUnreachable, 0, {}}});
      enter(source, reached);
    }
  }

  // An entry, unless it is one already; then all that it leads to is reached.
  void enter(NodeId node, std::vector<bool>& reached) {
    if (is_entry_[node]) return;
    is_entry_[node] = true;
    graph_.entries.push_back(node);
    if (reached[node]) return;
    reached[node] = true;
    pending_.push_back(node);
    while (!pending_.empty()) {
      const NodeId from = pending_.back();
      pending_.pop_back();
      for (const NodeId to : graph_.out.row(from)) {
        if (reached[to]) continue;
        reached[to] = true;
        pending_.push_back(to);
      }
    }
  }

  const Process& process_;
  const PyRuntime& runtime_;
  HeapGraph& graph_;
  const BlockTable& blocks_;
  Progress& progress_;
  Findings& findings_;
  Reader reader_{process_.snapshot.space};
  std::vector<Rows::Block> rows_;
  std::vector<std::vector<Edge>> words_;                      // conservative edges of the objects, by block of rows
  std::unique_ptr<std::atomic<std::uint32_t>[]> references_;  // by object: how many edges lead to it
  std::unique_ptr<std::atomic<bool>[]> understood_;           // by raw block: an object knows what is in it
  RootFinder roots_;
  std::vector<NodeId> immortal_;
  std::vector<bool> is_entry_;
  std::vector<NodeId> pending_;
};

}  // namespace

ObjectView HeapGraph::view(NodeId node) const {
  ObjectView object;
  object.address = blocks.address(node);
  object.type = briefs[blocks.type(node)];
  object.tracked = blocks.tracked(node);
  return object;
}

std::string HeapGraph::type_name(NodeId node) const {
  if (!blocks.is_object(node)) return "raw block";
  const TypeInfo& info = census.types->info(blocks.type(node));
  return info.module.empty() ? info.name : info.module + "." + info.name;
}

HeapGraph link_heap(const Process& process, Progress& progress, Findings& findings, Timings& timings) {
  HeapGraph graph;
  timings.time("decode", [&] { graph.census = take_census(process, progress, findings, &graph.blocks); });
  TypeTable& types = *graph.census.types;
  for (TypeId id = 0; id < types.size(); ++id) graph.briefs.push_back(types.classify(types.info(id).address));
  timings.time("link", [&] { Linker(process, graph, progress, findings).run(); });
  return graph;
}

}  // namespace heapcore
