// Memory that is free, or nobody's, and not the system's again.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "analysis/diagnosis_rules.h"
#include "pyobj/mimalloc.h"
#include "support/units.h"

namespace heapcore {
namespace {

constexpr std::size_t kShown = 4;
constexpr std::uint64_t kSmallPart = 20;      // of the whole; less is no evidence
constexpr std::uint64_t kSparsePercent = 50;  // of an arena in use: below, it is mostly kept for what is left in it

struct Left {
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;
  NodeId example = kNoNode;
};

// "9,946 __main__.Row, held by __main__.survivors[...], keep 83.3 MiB".
void say_pins(const Incident& incident, MapAllocator allocator, Diagnosis& found) {
  if (!incident.pins) return;
  std::size_t said = 0;
  for (const PinGroup& pin : incident.pins->pins) {
    if (pin.allocator != allocator) continue;
    if (said++ == kShown || pin.kept_bytes < found.bytes / kSmallPart) break;
    found.evidence.push_back(
        fmt::format("{} {} ({} live){} keep {} from going back", count_text(pin.count), pin.type, bytes_text(pin.bytes),
                    pin.held_by.empty() ? "" : ", held by " + pin.held_by + ",", bytes_text(pin.kept_bytes)));
    if (!pin.objects.empty()) found.objects.push_back(pin.objects.front());
  }
}

// "400,000 of them are C++ objects of class shop::Order (libshop.so): 36.6 MiB", where one class or cluster dominates.
void say_largest(const NativeBlocks& native, Diagnosis& found) {
  constexpr std::uint64_t kDominates = 2;  // a half of it, or more
  for (const NativeClass& row : native.classes) {
    if (row.native.bytes < found.bytes / kDominates) continue;
    found.evidence.push_back(fmt::format("{} of them are C++ objects of class {} ({}): {}",
                                         count_text(row.native.count), row.name, row.module,
                                         bytes_text(row.native.bytes)));
    if (!row.samples.empty()) found.objects.push_back(row.samples.front().address);
  }
  for (const NativeCluster& row : native.clusters) {
    if (row.chunks.bytes < found.bytes / kDominates) continue;
    found.evidence.push_back(
        fmt::format("{} are alike: chunks of {}, content {}, {}{}: {}", count_text(row.chunks.count) + " of them",
                    bytes_text(row.largest_bytes), content_name(row.content),
                    row.held_by.empty() ? "held by nothing that was found" : "held by " + row.held_by,
                    row.first_word.empty() ? "" : ", beginning with an address in " + row.first_word,
                    bytes_text(row.chunks.bytes)));
    if (!row.samples.empty()) found.objects.push_back(row.samples.front().address);
  }
}

}  // namespace

void Rules::sparse_arenas() {
  const ObmallocUse& use = *incident_.obmalloc;
  // mimalloc reserves segments of which most may never have been touched: what they lack is not what they keep.
  if (use.allocator == std::string_view("mimalloc")) return sparse_pages();
  std::uint64_t bytes = 0;
  std::uint64_t live = 0;
  std::uint64_t arenas = 0;
  for (const ArenaUse& arena : use.arenas) {
    if (arena.bytes_in_use >= arena.bytes / 100 * kSparsePercent) continue;
    ++arenas;
    bytes += arena.bytes;
    live += arena.bytes_in_use;
  }
  if (!worth_saying(bytes - live)) return;
  Diagnosis& found =
      add("obmalloc-fragmentation", severity(bytes - live), bytes,
          fmt::format("{} of {} are kept by {} of small blocks still in use: the peak is over, its memory is not back",
                      bytes_text(bytes), counted(arenas, "sparse arena"), bytes_text(live)));
  found.evidence.push_back(fmt::format("of {} of {}, {} are less than half in use: {} of them is free, {}",
                                       counted(use.arenas.size(), "arena"), use.allocator, count_text(arenas),
                                       bytes_text(bytes - live), share(bytes - live)));
  found.evidence.push_back(
      fmt::format("in use in all arenas: {} of {}", bytes_text(use.bytes_in_use), bytes_text(use.bytes)));
  say_pins(incident_, MapAllocator::kObmalloc, found);
  found.advice = fmt::format(
      "This is no leak: a peak was {} above what is in use now. Recycling the process gives that back, and is "
      "justified if the peak comes rarely; else make the peak smaller (work in batches, with generators), or make "
      "what survives it before the peak or in a process of its own.",
      bytes_text(bytes - live));
}

// A page of mimalloc's, a run of equal blocks, goes back when its last block is free. Blocks that were carved were
// used.
void Rules::sparse_pages() {
  Reader reader(process_.snapshot.space);
  std::uint64_t bytes = 0;
  std::uint64_t live = 0;
  std::uint64_t pages = 0;
  for (const MiSegment& segment : read_mi_segments(reader, *process_.runtime(), findings_)) {
    for (const MiPage& page : segment.pages) {
      const std::uint64_t carved_bytes = page.capacity * page.block_bytes;
      const std::uint64_t live_bytes = std::min(page.used, page.capacity) * page.block_bytes;
      if (live_bytes >= carved_bytes / 100 * kSparsePercent) continue;
      ++pages;
      bytes += carved_bytes;
      live += live_bytes;
    }
  }
  if (!worth_saying(bytes - live)) return;
  Diagnosis& found =
      add("mimalloc-fragmentation", severity(bytes - live), bytes,
          fmt::format("{} are kept by {} of small blocks still in use: the peak is over, its memory is not back",
                      bytes_text(bytes), bytes_text(live)));
  found.evidence.push_back(
      fmt::format("{} of mimalloc, runs of blocks of one size, are less than half in use: {} of "
                  "what they held is free, {}",
                  counted(pages, "page"), bytes_text(bytes - live), share(bytes - live)));
  say_pins(incident_, MapAllocator::kMimalloc, found);
  found.advice =
      "This is no leak, but only objects of the same sizes will use that memory again. Recycling the process gives it "
      "back, and is justified if the peak comes rarely; else make the peak smaller (work in batches, with generators), "
      "or make what survives it before the peak or in a process of its own.";
}

void Rules::untrimmed_malloc() {
  const ArenaTotals all = process_.heap()->totals();
  const std::uint64_t bytes = all.trim_nonzero_bytes;
  if (!worth_saying(bytes)) return;
  Diagnosis& found =
      add("untrimmed-malloc", severity(bytes), bytes,
          fmt::format("{} that was freed is still glibc's: malloc_trim(0) would give it back", bytes_text(bytes)));
  found.evidence.push_back(fmt::format("free in malloc's arenas: {}, of which whole pages that hold old data are {}",
                                       bytes_text(all.free().bytes), share(bytes)));
  found.evidence.push_back(fmt::format(
      "at the end of the heaps (top): {}; in tcaches and fastbins: {}", bytes_text(all.of(ChunkState::kTop).bytes),
      bytes_text(all.of(ChunkState::kTcache).bytes + all.of(ChunkState::kFast).bytes)));
  const Heap::Confined confined = process_.heap()->confined();
  if (confined.arenas != 0) {
    found.evidence.push_back(fmt::format("in {} of threads {} is free for their own threads only",
                                         counted(confined.arenas, "arena"), bytes_text(confined.free_bytes)));
  }
  found.advice =
      "Call malloc_trim(0) when a peak is over (ctypes.CDLL(None).malloc_trim(0)); or lower "
      "M_TRIM_THRESHOLD and M_MMAP_THRESHOLD (GLIBC_TUNABLES, MALLOC_TRIM_THRESHOLD_), or MALLOC_ARENA_MAX "
      "where threads have arenas of their own.";
}

void Rules::scattered_malloc() {
  const ArenaTotals all = process_.heap()->totals();
  const std::uint64_t free = all.free().bytes - all.of(ChunkState::kTop).bytes;
  const std::uint64_t bytes = free - std::min(free, all.trim_chunks_bytes);
  if (!worth_saying(bytes)) return;
  Diagnosis& found =
      add("malloc-fragmentation", severity(bytes), bytes,
          fmt::format("{} is free in malloc's heap in pieces too small to give back", bytes_text(bytes)));
  found.evidence.push_back(fmt::format("{} in {} lie between chunks in use: {}", bytes_text(free),
                                       counted(all.free().count, "free chunk"), share(free)));
  found.evidence.push_back(
      fmt::format("malloc_trim(0) could return {} of them, the whole pages", bytes_text(all.trim_chunks_bytes)));
  found.evidence.push_back(fmt::format("in use between them: {} in {}", bytes_text(all.of(ChunkState::kInUse).bytes),
                                       counted(all.of(ChunkState::kInUse).count, "chunk")));
  say_pins(incident_, MapAllocator::kMalloc, found);
  found.advice =
      "New allocations of these sizes will fill the gaps; nothing else gives them back but ending the "
      "process. Allocate what lives long before or apart from what lives short, or in larger pieces.";
}

void Rules::native_growth() {
  const HeapGraph& graph = incident_.holders->graph;
  const BlockTable& blocks = graph.blocks;
  std::map<std::uint64_t, Left> sizes;
  Left all;
  // What no object dominates, neither directly nor through other blocks. A dominator comes first in the preorder.
  const DominatorTree& tree = incident_.holders->retained.tree;
  std::vector<bool> objects_own(blocks.size());
  for (const NodeId node : tree.order) {
    const NodeId above = tree.idom[node];
    objects_own[node] = blocks.is_object(node) || (above < blocks.size() && objects_own[above]);
    if (objects_own[node]) continue;
    const std::uint64_t bytes = blocks.bytes(node);
    Left& left = sizes[bytes];
    if (left.count++ == 0) left.example = node;
    left.bytes += bytes;
    all.bytes += bytes;
    ++all.count;
  }
  if (!worth_saying(all.bytes)) return;
  Diagnosis& found =
      add("native-growth", severity(all.bytes), all.bytes,
          fmt::format("{} in {} belong to no Python object", bytes_text(all.bytes), counted(all.count, "block")));
  found.evidence.push_back(
      fmt::format("no object owns them, neither directly nor through other blocks: {}", share(all.bytes)));
  if (incident_.native) say_largest(*incident_.native, found);
  std::vector<std::pair<std::uint64_t, Left>> largest(sizes.begin(), sizes.end());
  std::stable_sort(largest.begin(), largest.end(),
                   [](const auto& a, const auto& b) { return a.second.bytes > b.second.bytes; });
  HolderPaths paths(process_, graph, options_.values, findings_);
  for (std::size_t i = 0; i < std::min(largest.size(), kShown); ++i) {
    const auto& [bytes, left] = largest[i];
    const RootWord* root = paths.root(left.example);
    const bool held = root != nullptr && root->kind < RootKind::kUnexplained;
    found.evidence.push_back(fmt::format("{} of {}{}", counted(left.count, "block"), bytes_text(bytes),
                                         held ? ", such as one held by " + paths.root_text(left.example) : ""));
    found.objects.push_back(blocks.address(left.example));
  }
  found.advice =
      "Look at native libraries: `heapcore malloc --unowned` counts C++ objects by class and the rest by size, content "
      "and holder, `heapcore show ADDR` shows what one holds; a native heap profiler tells who allocates them.";
}

}  // namespace heapcore
