#include "analysis/process.h"

#include "pyobj/mimalloc.h"
#include "pyobj/obmalloc.h"

namespace heapcore {
namespace {

// obmalloc's arenas, or mimalloc's segments, are mappings of their own; malloc's scan for mmapped chunks must not look
// into them.
std::vector<AddrRange> arena_ranges(const Process& process) {
  std::vector<AddrRange> ranges;
  const PyRuntime* runtime = process.runtime();
  if (runtime == nullptr) return ranges;
  Reader reader(process.snapshot.space);
  Findings reported_elsewhere;  // by whoever reads the arenas for their own sake
  for (const MiSegment& segment : read_mi_segments(reader, *runtime, reported_elsewhere)) {
    ranges.push_back({segment.address, segment.address + segment.bytes});
  }
  for (const PyArena& arena : read_arenas(reader, *runtime, reported_elsewhere)) {
    ranges.push_back({arena.address, arena.address + runtime->traits.arena_bytes});
  }
  return ranges;
}

}  // namespace

Result<Process> open_target(const TargetName& target, Progress& progress, Timings& timings) {
  Process process;
  Result<Snapshot> snapshot = timings.time("open", [&] {
    return target.core.empty() ? open_process(target.pid, target.files, progress)
                               : open_core(target.core, target.files, progress);
  });
  if (!snapshot) return snapshot.error();
  process.snapshot = std::move(*snapshot);
  process.findings.merge(process.snapshot.findings);
  timings.time("locate", [&] {
    process.python = find_python(process.snapshot, process.findings, target.python_layout);
    process.malloc = find_heap(process.snapshot, process.findings, target.malloc_layout);
    if (Heap* heap = process.heap()) find_mmapped(process.snapshot, arena_ranges(process), *heap, process.findings);
  });
  return process;
}

}  // namespace heapcore
