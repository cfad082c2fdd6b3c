#include "analysis/heap_graph.h"

#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <unordered_map>

#include "analysis/borrowed.h"
#include "analysis/components.h"
#include "pyobj/refcounts.h"
#include "pyobj/references.h"

namespace heapcore {
namespace {

// Dicts below this are not looked at as candidates for the table of interned strings.
constexpr std::uint32_t kLeastInterned = 64;
// A count that no number of references explains.
constexpr std::int32_t kImmortalCount = std::int32_t{1} << 29;
// The allocator's debug hooks put so much before what their caller gets; at most twice.
constexpr std::uint64_t kDebugHeaderBytes = 16;
// The length before a list's items in free-threaded builds (_PyListArray).
constexpr std::uint64_t kArrayHeaderBytes = 8;
// Objects whose counts a thread settles at a time: whole words of a NodeSet.
constexpr std::size_t kSettledPart = std::size_t{1} << 16;

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
        references_(blocks_.objects(), 0),
        led_to_(blocks_.size()),
        roots_(process, *graph.census.types) {}

  void run() {
    progress_.begin("link", blocks_.size());
    link_objects();
    drop_interned();
    settle_counts();
    find_roots();
    graph_.out = Rows::from_blocks(blocks_.size(), std::move(rows_));
    finish_roots();
    progress_.end();
  }

 private:
  using Edge = std::pair<NodeId, NodeId>;

  static constexpr std::size_t block_of(NodeId node) { return node >> Rows::kBlockBits; }

  // What a thread needs.
  struct Scratch {
    Scratch(const Process& process, TypeTable& types)
        : references(process.snapshot, *process.runtime(), types), reader(process.snapshot.space) {}

    ReferenceReader references;
    Reader reader;
    std::vector<NodeId> targets;
    std::vector<NodeId> unrecognised;  // raw blocks to which objects refer as to objects
  };

  void link_objects() {
    graph_.shared = NodeSet(blocks_.size());
    graph_.excess = Column<std::int32_t>(blocks_.objects());
    tbb::enumerable_thread_specific<Scratch> scratches([this] { return Scratch(process_, *graph_.census.types); });
    const std::size_t count = (blocks_.objects() + Rows::kBlockNodes - 1) >> Rows::kBlockBits;
    tbb::parallel_for(std::size_t{0}, count, [&](std::size_t b) {
      const auto begin = static_cast<NodeId>(b << Rows::kBlockBits);
      const auto end =
          static_cast<NodeId>(std::min<std::uint64_t>(blocks_.objects(), std::uint64_t{begin} + Rows::kBlockNodes));
      Scratch& scratch = scratches.local();
      scratch.targets.clear();
      rows_[b].degrees.reserve(std::min<std::uint64_t>(blocks_.size() - begin, Rows::kBlockNodes));
      for (NodeId node = begin; node < end; ++node) {
        const std::size_t before = scratch.targets.size();
        link_object(node, scratch, b);
        rows_[b].degrees.push_back(static_cast<std::uint32_t>(scratch.targets.size() - before));
      }
      rows_[b].targets.assign(scratch.targets.begin(), scratch.targets.end());
      progress_.advance(end - begin);
    });
    for (const Scratch& scratch : scratches) {
      findings_.merge(scratch.references.findings());
      unrecognised_.insert(unrecognised_.end(), scratch.unrecognised.begin(), scratch.unrecognised.end());
    }
  }

  void link_object(NodeId node, Scratch& scratch, std::size_t b) {
    const ObjectView object = graph_.view(node);
    // While the object is at hand; settle_counts() takes off the references.
    graph_.excess[node] = static_cast<std::int32_t>(std::clamp<std::int64_t>(
        count_of(node, scratch.reader), std::numeric_limits<std::int32_t>::min(), kImmortalCount));
    const auto visit = [&](Addr target, RefKind kind, const EdgeName& name) {
      if (kind == RefKind::kWeak) return;
      const NodeId to = kind == RefKind::kBuffer         ? find_buffer(target)
                        : kind == RefKind::kConservative ? find_pointed(target)
                                                         : blocks_.find(target);
      if (to == kNoBlock || (kind == RefKind::kConservative && to == node)) return;
      if (kind == RefKind::kConservative) {
        words_[b].emplace_back(node, to);
        return;
      }
      scratch.targets.push_back(to);
      if (blocks_.is_object(to) && name.is_counted()) {
        std::atomic_ref<std::uint32_t>(references_[to]).fetch_add(1, std::memory_order_relaxed);
        return;
      }
      if (!led_to_.shared_insert(to)) graph_.shared.shared_insert(to);
      if (!blocks_.is_object(to) && kind != RefKind::kBuffer) scratch.unrecognised.push_back(to);
    };
    scratch.references.for_each(object, visit, blocks_.end_of(object, node));
  }

  NodeId find_buffer(Addr target) const {
    for (const std::uint64_t before : {std::uint64_t{0}, kArrayHeaderBytes, kDebugHeaderBytes, 2 * kDebugHeaderBytes}) {
      const NodeId found = blocks_.find_raw(target - before);
      if (found != kNoBlock) return found;
    }
    return kNoBlock;
  }

  // What a word may point to: an object, a block, or a block behind the word that its owner keeps for itself at its
  // start (sqlite's allocations, arrays of C++).
  NodeId find_pointed(Addr word) const {
    const NodeId exact = blocks_.find(word);
    return exact != kNoBlock ? exact : blocks_.find_raw(word - sizeof(Addr));
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
          --references_[to];
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
      if (count < kImmortalCount && count >= std::int64_t{references_[targets[i]]}) return false;
    }
    return true;
  }

  std::int64_t count_of(NodeId object, Reader& reader) const {
    const std::span<const std::byte> bytes =
        reader.span(blocks_.address(object), runtime_.traits.layout->PyObject.size_bytes);
    return bytes.empty() ? 0 : reference_count(runtime_.traits, bytes);
  }

  void settle_counts() {
    for (const auto& [object, count] : counts_by_threads(reader_, runtime_)) {
      const NodeId node = blocks_.find_object(object);
      if (node != kNoBlock && graph_.excess[node] != kImmortalCount)
        graph_.excess[node] = static_cast<std::int32_t>(std::clamp<std::int64_t>(
            graph_.excess[node] + count, std::numeric_limits<std::int32_t>::min(), kImmortalCount - 1));
    }
    std::vector<std::vector<NodeId>> immortal((blocks_.objects() + kSettledPart - 1) / kSettledPart);
    tbb::parallel_for(std::size_t{0}, immortal.size(), [&](std::size_t part) {
      const std::size_t end = std::min<std::size_t>(blocks_.objects(), (part + 1) * kSettledPart);
      for (auto object = static_cast<NodeId>(part * kSettledPart); object < end; ++object) {
        // One that is not counted may lead there already.
        if (references_[object] != 0 && !led_to_.insert(object)) graph_.shared.insert(object);
        if (references_[object] > 1) graph_.shared.insert(object);
        std::int32_t& excess = graph_.excess[object];
        if (excess == kImmortalCount) {
          excess = 0;
          immortal[part].push_back(object);
          continue;
        }
        excess = static_cast<std::int32_t>(std::max<std::int64_t>(std::int64_t{excess} - references_[object],
                                                                  std::numeric_limits<std::int32_t>::min()));
      }
    });
    for (const std::vector<NodeId>& part : immortal) immortal_.insert(immortal_.end(), part.begin(), part.end());
    references_ = {};
  }

  // Takes one of an object's unexplained references; whether there was one. Of a raw block, whether its contents are
  // for anybody who points to it.
  bool explain(NodeId node) {
    if (!blocks_.is_object(node)) return !understood_.contains(node);
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
    understood_ = led_to_;
    for (const NodeId node : unrecognised_) understood_.erase(node);
    // Looked at as what they are, so not once more as raw blocks; and what names objects without holding them.
    std::vector<Addr> known = roots_.structures();
    for (const Interpreter& interpreter : runtime_.interpreters) {
      const Field& numbered = runtime_.traits.layout->PyInterpreterState.unique_ids_table;
      Addr table = 0;
      if (numbered.present() && reader_.try_load(interpreter.address + numbered.offset, table)) known.push_back(table);
    }
    for (const Addr structure : known) {
      const NodeId node = find_buffer(structure);
      if (node != kNoBlock) understood_.insert(node);
    }
    roots_.exact([&](const RootWord& word) {
      const NodeId node = blocks_.find(word.target);
      if (node == kNoBlock) return;
      if (word.edge.is_counted()) explain(node);
      graph_.roots.push_back({node, word});
    });
    roots_.evaluation_stacks(admit);
    admit_words_of_objects();
    BorrowedWords borrowed(process_, *graph_.census.types);
    roots_.words([&](const RootWord& word) {
      NodeId node = blocks_.find(word.target);
      if (node == kNoBlock) node = text_with(word.target);
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

  // The text whose characters begin there: C code that keeps them (numpy's docstrings) keeps the object alive.
  NodeId text_with(Addr characters) const {
    const PyLayout& layout = *runtime_.traits.layout;
    const bool compact = runtime_.traits.str_rep == StrRep::kCompact;
    const NodeId node = blocks_.find_object(
        characters - (compact ? layout.PyASCIIObject.size_bytes : layout.PyStringObject.ob_sval.offset));
    if (node == kNoBlock) return kNoBlock;
    const Kind kind = graph_.census.types->info(blocks_.type(node)).kind;
    return kind == (compact ? Kind::kStr : Kind::kBytes) ? node : kNoBlock;
  }

  void admit_words_of_objects() {
    for (std::size_t b = 0; b < words_.size(); ++b) {
      std::erase_if(words_[b], [this](const Edge& edge) { return !explain(edge.second); });
      for (const Edge& edge : words_[b]) lead_to(edge.second);
      graph_.conservative.insert(graph_.conservative.end(), words_[b].begin(), words_[b].end());
      merge_edges(b);
    }
  }

  void lead_to(NodeId node) {
    if (!led_to_.insert(node)) graph_.shared.insert(node);
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
      lead_to(to);
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

  // How much of a block may refer to anything: all, but of a chunk of the collector's own stacks in free-threaded
  // builds (_PyObjectStackChunk, Include/internal/pycore_object_stack.h): a link, a count of objects, room for 254.
  // Those that were emptied wait on a free list, full of stale words.
  std::size_t used_of_object_stack(std::span<const std::byte> bytes) const {
    constexpr std::size_t kMostObjects = 254;
    constexpr std::size_t kChunkBytes = (kMostObjects + 2) * sizeof(Addr);
    if (runtime_.traits.gc_head != GcHead::kNone || bytes.size() < kChunkBytes || bytes.size() > kChunkBytes + 16)
      return bytes.size();
    const Addr objects = word_at(bytes, sizeof(Addr));
    return objects <= kMostObjects ? (objects + 2) * sizeof(Addr) : bytes.size();
  }

  void find_words(NodeId node, Reader& reader, TypeCache& types, std::vector<Edge>& found) const {
    const std::span<const std::byte> present = reader.span_to_end(blocks_.address(node));
    const std::size_t size = align_down(std::min<std::size_t>(present.size(), blocks_.bytes(node)), sizeof(Addr));
    if (is_freed_object(present.first(size), types)) return;
    const std::size_t used = used_of_object_stack(present.first(size));
    for (std::size_t at = 0; at < used; at += sizeof(Addr)) {
      const Addr word = word_at(present, at);
      const NodeId to = word == 0 ? kNoBlock : find_pointed(word);
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
    NodeSet is_entry(blocks_.size());
    for (const RootRef& root : graph_.roots) {
      if (is_entry.insert(root.target)) graph_.entries.push_back(root.target);
    }
    for (const NodeId source : source_nodes(graph_.out, reachable(graph_.out, graph_.entries))) {
      graph_.roots.push_back({source, {0, RootKind::kUnreachable, 0, {}}});
      graph_.entries.push_back(source);
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
  std::vector<std::vector<Edge>> words_;  // conservative edges of the objects, by block of rows
  Column<std::uint32_t> references_;      // by object: how many edges lead to it
  NodeSet led_to_;                        // by some edge; of objects, by counted ones only when those are settled
  NodeSet understood_;                    // raw blocks of which an object, or a root, knows what is in them
  std::vector<NodeId> unrecognised_;      // raw blocks to which objects refer as to objects: not understood
  RootFinder roots_;
  std::vector<NodeId> immortal_;
};

}  // namespace

const Rows& HeapGraph::in() const {
  if (!in_) in_ = out.reversed();
  return *in_;
}

const HolderTree& HeapGraph::holder_tree(const PyRuntime& runtime) const {
  if (!holder_tree_) holder_tree_.emplace(runtime, out, roots);
  return *holder_tree_;
}

std::vector<TypeBrief> briefs_of(TypeTable& types) {
  std::vector<TypeBrief> briefs;
  for (TypeId id = 0; id < types.size(); ++id) briefs.push_back(types.classify(types.info(id).address));
  return briefs;
}

ObjectView view_of(const BlockTable& blocks, const std::vector<TypeBrief>& briefs, BlockId id) {
  ObjectView object;
  object.address = blocks.address(id);
  object.type = briefs[blocks.type(id)];
  object.tracked = blocks.tracked(id);
  return object;
}

ObjectView HeapGraph::view(NodeId node) const {
  return view_of(blocks, briefs, node);
}

std::string HeapGraph::type_name(NodeId node) const {
  if (!blocks.is_object(node)) return "raw block";
  const TypeInfo& info = census.types->info(blocks.type(node));
  return info.module.empty() ? info.name : info.module + "." + info.name;
}

HeapGraph link_heap(const Process& process, Progress& progress, Findings& findings, Timings& timings) {
  HeapGraph graph;
  timings.time("decode", [&] { graph.census = take_census(process, progress, findings, &graph.blocks); });
  graph.briefs = briefs_of(*graph.census.types);
  timings.time("link", [&] { Linker(process, graph, progress, findings).run(); });
  return graph;
}

}  // namespace heapcore
