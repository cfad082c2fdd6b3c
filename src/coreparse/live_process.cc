// open_process(): a live process becomes a Snapshot in four steps.
//   prepare   see whether it may be read, estimate what will be copied, take the memory for it
//   stop      every thread, from an OS thread of ours whose end alone would let them go
//   copy      registers, maps and memory; then let them go at once
//   build     the Snapshot, from the copy
// Nothing between stop and resume may wait on anything but the target: no progress, no terminal, no files of ours.
#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "coreparse/live_copy.h"
#include "coreparse/live_proc.h"
#include "coreparse/live_standstill.h"
#include "coreparse/live_target.h"
#include "coreparse/modules.h"
#include "coreparse/snapshot.h"

namespace heapcore {
namespace {

using live::CopyPlan;
using live::HostMemory;
using live::ProcDir;
using live::Tracer;

constexpr std::uint64_t kUnpreparedLimitBytes = 64
                                                << 20;  // copied without preparation, where the process grew meanwhile
constexpr int kAttempts = 3;
constexpr std::chrono::milliseconds kRetryAfter{10};

// What was taken while the process stood still.
struct Capture {
  CopyPlan plan;
  live::CopyResult copied;
  live::Standstill standstill;
  std::vector<AddrRange> lost;  // unreadable, though in memory
  bool outgrew = false;         // too much of it is new since we prepared; nothing was copied
};

Error no_memory(std::int32_t pid, std::uint64_t needed_bytes, std::uint64_t available_bytes) {
  return {ErrorCode::kNoMemory,
          fmt::format("copying process {} takes {} MiB of memory, and {} MiB are free", pid, needed_bytes >> 20,
                      available_bytes >> 20),
          "free memory, raise --max-memory if it was given, or take a core (heapcore capture) and analyse that"};
}

// The part that happens while the process stands still.
Status copy_stopped(const ProcDir& proc, HostMemory& host, std::uint64_t budget_bytes, bool last_attempt,
                    Capture& capture) {
  capture.plan = live::plan_copy(proc);
  if (!capture.plan.readable()) return live::gone_error(proc.pid());
  const CopyPlan& plan = capture.plan;
  if (plan.bytes > budget_bytes) return no_memory(proc.pid(), plan.bytes, budget_bytes);
  if (!last_attempt && host.missing_bytes(plan.runs) > std::max(kUnpreparedLimitBytes, plan.bytes / 4)) {
    capture.outgrew = true;
    return std::monostate{};
  }
  Status reserved = host.reserve_missing(plan.runs);
  if (!reserved) return reserved;
  capture.copied = live::copy_runs(plan.tid, plan.runs, host);
  if (capture.copied.gone) return live::gone_error(proc.pid());
  if (!capture.copied.unreadable.empty()) {
    const live::PageMap pages(proc, plan.tid);
    for (const AddrRange& range : capture.copied.unreadable) {
      pages.find(range, live::PageMap::Want::kInMemory, capture.lost);
    }
  }
  live::read_identity(proc, plan.tid, capture.standstill);
  return std::monostate{};
}

Status stop_and_copy(const ProcDir& proc, HostMemory& host, std::uint64_t budget_bytes, bool stop, bool last_attempt,
                     Capture& capture) {
  Tracer tracer(proc);
  Status status = live::begin_standstill(proc, stop, tracer, capture.standstill);
  if (!status) return status;
  status = copy_stopped(proc, host, budget_bytes, last_attempt, capture);
  live::end_standstill(tracer, capture.standstill);
  return status;
}

void add_findings(const Capture& capture, Findings& findings) {
  for (const AddrRange& range : capture.lost) {
    findings.add({"live-memory-unreadable", Room::kCoreparse, range.start,
                  fmt::format("{} bytes in memory could not be read", range.size_bytes())});
  }
  std::uint64_t absent = 0;
  for (const AddrRange& range : capture.copied.unreadable) absent += range.size_bytes();
  for (const AddrRange& range : capture.lost) absent -= range.size_bytes();
  if (absent != 0) {
    findings.note("live-memory-absent", Room::kCoreparse, capture.copied.unreadable.front().start,
                  fmt::format("{} bytes are mapped, but nobody can read them: guard pages, or beyond the end of a "
                              "mapped file",
                              absent));
  }
  if (!capture.plan.pages_known) {
    findings.note("live-no-pagemap", Room::kCoreparse, 0,
                  "the kernel does not say which pages are in use, so whole mappings were copied");
  }
}

Snapshot build_snapshot(const ProcDir& proc, const OpenOptions& options, HostMemory& host, Capture& capture) {
  Snapshot snapshot;
  live::describe_process(capture.standstill, proc.pid(), snapshot);
  add_findings(capture, snapshot.findings);
  snapshot.space.assign(live::copied_segments(capture.plan, host, capture.copied.unreadable));
  snapshot.mappings = std::move(capture.plan.mappings);
  snapshot.storage = host.take_images();
  find_modules(snapshot, options, EM_X86_64);
  return snapshot;
}

// Takes the memory for a copy. Sets `budget_bytes` to what a copy may take at most.
Status prepare(const ProcDir& proc, HostMemory& host, std::uint64_t& budget_bytes, Progress& progress) {
  const CopyPlan estimate = live::plan_copy(proc);
  if (!estimate.readable()) return live::gone_error(proc.pid());
  const std::uint64_t available = live::available_memory_bytes();
  budget_bytes = available - available / 16;
  if (estimate.bytes > budget_bytes) return no_memory(proc.pid(), estimate.bytes, available);
  Status status = host.reserve(estimate.runs);
  if (!status) return status;
  progress.begin("prepare", estimate.bytes);
  status = host.fault_in(estimate.runs, progress);
  progress.end();
  return status;
}

Result<Snapshot> try_open(std::int32_t pid, const OpenOptions& options, Progress& progress) {
  Result<ProcDir> proc = live::find_target(pid, options.stop);
  if (!proc) return proc.error();
  for (int attempt = 1;; ++attempt) {
    HostMemory host;
    std::uint64_t budget_bytes = 0;
    Status status = prepare(*proc, host, budget_bytes, progress);
    if (!status) return status.error();
    Capture capture;
    Status captured = std::monostate{};
    const bool last = attempt == kAttempts;
    status =
        live::in_own_thread([&] { captured = stop_and_copy(*proc, host, budget_bytes, options.stop, last, capture); });
    if (!status) return status.error();
    if (!captured) return captured.error();
    if (!capture.outgrew) return build_snapshot(*proc, options, host, capture);
  }
}

// In the middle of an exec a process can look as if it had ended.
bool is_still_there(std::int32_t pid) {
  const std::optional<ProcDir> proc = ProcDir::open(pid);
  return proc && proc->living_thread() != 0;
}

}  // namespace

Result<Snapshot> open_process(std::int32_t pid, const OpenOptions& options, Progress& progress) {
  for (int attempt = 1;; ++attempt) {
    Result<Snapshot> snapshot = try_open(pid, options, progress);
    if (snapshot || snapshot.error().code != ErrorCode::kProcessGone) return snapshot;
    if (attempt == kAttempts || !is_still_there(pid)) return snapshot;
    std::this_thread::sleep_for(kRetryAfter);
  }
}

}  // namespace heapcore
