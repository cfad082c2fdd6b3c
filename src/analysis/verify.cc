#include "analysis/verify.h"

#include <algorithm>

#include "analysis/block_table.h"
#include "analysis/census.h"
#include "analysis/object_checks.h"
#include "glibc_heap/census.h"
#include "pyobj/mimalloc.h"
#include "pyobj/obmalloc.h"

namespace heapcore {
namespace {

// Said of what is not there, not of what contradicts itself.
bool says_missing(const Finding& finding) {
  const std::string_view code = finding.code;
  return finding.room == Room::kCoreparse || code.ends_with("-missing") || code.ends_with("-not-dumped") ||
         code.starts_with("python-");
}

void verify_malloc(Process& process, Verification& out) {
  Heap& heap = *process.heap();
  count_chunks(process.snapshot, heap, process.findings);
  check_bins(process.snapshot, heap, process.findings);
  std::uint64_t chunks = 0;
  std::uint64_t binned = 0;
  for (const Arena& arena : heap.arenas) {
    for (const CountBytes& state : arena.totals.by_state) chunks += state.count;
    binned += arena.totals.of(ChunkState::kSmall).count + arena.totals.of(ChunkState::kLarge).count;
  }
  const auto add = [&](const char* what, std::uint64_t count) { out.checks.push_back({"malloc", what, count}); };
  add("arenas: the ring closes, top ends its heap, system_mem is the sum of the heaps", heap.arenas.size());
  add("runs of chunks: the sizes lead from the first chunk to the end", heap.regions.size());
  add("chunks: size, flags, prev_size", chunks);
  add("chunks on tcaches, fastbins and unsorted lists: known to the walk, once, of the list's size",
      heap.free_listed.size());
  add("chunks in small and large bins: links both ways, right bin, as many as the walk met", binned);
  add("tcaches: counts equal the lists", heap.tcaches.size());
  add("mmapped chunks: as many, and as many bytes, as malloc counts", heap.mmapped.size());
}

void verify_python(Process& process, Progress& progress, Verification& out) {
  const PyRuntime& runtime = *process.runtime();
  if (runtime.arenas) {
    const ObmallocUse use = summarise_obmalloc(process.snapshot, runtime, process.findings);
    out.checks.push_back({"obmalloc", "arenas: pools used and free add up", use.arenas.size()});
    out.checks.push_back(
        {"obmalloc", "pools: header, arena index, free list against the count of blocks in use", use.pools});
    out.checks.push_back({"obmalloc", "blocks in use", use.blocks_in_use});
  }
  if (runtime.mimalloc) {
    const ObmallocUse use = summarise_mimalloc(process.snapshot, runtime, process.findings);
    out.checks.push_back(
        {"mimalloc", "segments: cookie, slices lead from the first page to the end", use.arenas.size()});
    out.checks.push_back({"mimalloc", "pages: sizes, free lists against the count of blocks in use", use.pools});
    out.checks.push_back(
        {"mimalloc", "heaps: as many pages as each says", check_mi_heaps(process.snapshot, runtime, process.findings)});
    out.checks.push_back({"mimalloc", "blocks in use", use.blocks_in_use});
  }
  BlockTable blocks;
  const Census census = take_census(process, progress, process.findings, &blocks);
  out.checks.push_back(
      {"objects", "objects: type, size within their block, as many items as they say", census.total.count});
  out.checks.push_back({"objects", "references: to objects", check_objects(process, census, blocks, process.findings)});
  if (runtime.traits.gc_head == GcHead::kNone) {
    out.checks.push_back({"objects", "objects the collector tracks, as each says of itself", census.tracked.count});
    return;
  }
  out.checks.push_back({"objects",
                        census.rings_whole ? "objects the collector tracks: its lists hold the same"
                                           : "objects the collector tracks: its lists hold others",
                        census.tracked.count});
}

}  // namespace

Verification verify_process(Process& process, Progress& progress, Timings& timings) {
  Verification out;
  if (process.heap() != nullptr) timings.time("walk", [&] { verify_malloc(process, out); });
  if (process.runtime() != nullptr) timings.time("decode", [&] { verify_python(process, progress, out); });
  for (const Finding& finding : process.findings.kept()) {
    if (!finding.incomplete) continue;
    if (says_missing(finding)) {
      out.whole = false;
    } else {
      out.consistent = false;
    }
  }
  std::vector<std::string_view> counted;
  for (const Finding& finding : process.findings.kept()) {
    if (!finding.incomplete || std::find(counted.begin(), counted.end(), finding.code) != counted.end()) continue;
    counted.push_back(finding.code);
    out.findings += process.findings.count(finding.code);
  }
  return out;
}

}  // namespace heapcore
