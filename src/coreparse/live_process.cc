// open_process(): a live process becomes a Snapshot in four steps.
//   prepare   see whether it may be read, estimate what will be copied, take the memory for it
//   stop      every thread, from an OS thread of ours whose end alone would let them go
//   copy      registers, maps and memory; then let them go at once
//   build     the Snapshot, from the copy
// Nothing between stop and resume may wait on anything but the target: no progress, no terminal, no files of ours.
#include <elf.h>
#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <functional>
#include <system_error>
#include <thread>

#include "coreparse/live_copy.h"
#include "coreparse/live_proc.h"
#include "coreparse/live_ptrace.h"
#include "coreparse/live_target.h"
#include "coreparse/modules.h"
#include "coreparse/snapshot.h"

namespace heapcore {
namespace {

using live::CopyPlan;
using live::HostMemory;
using live::ProcDir;
using live::Tracer;

constexpr std::chrono::milliseconds kStopLimit{5000};
constexpr std::uint64_t kUnpreparedLimitBytes = 64
                                                << 20;  // copied without preparation, where the process grew meanwhile
constexpr int kAttempts = 3;
constexpr std::chrono::milliseconds kRetryAfter{10};
constexpr std::size_t kCommandBytes = 4096;

// Places in struct user_regs_struct, x86-64.
constexpr std::size_t kRip = 16;
constexpr std::size_t kRsp = 19;
constexpr std::size_t kFsBase = 21;

// What was taken while the process stood still.
struct Capture {
  CopyPlan plan;
  live::CopyResult copied;
  std::vector<Tracer::Thread> threads;
  std::vector<std::string> thread_names;  // of each of threads
  std::string executable;
  std::string command;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> auxv;
  std::vector<AddrRange> lost;  // unreadable, though in memory
  bool outgrew = false;         // too much of it is new since we prepared; nothing was copied
  double pause_seconds = 0;
};

Error no_memory(std::int32_t pid, std::uint64_t needed_bytes, std::uint64_t available_bytes) {
  return {ErrorCode::kNoMemory,
          fmt::format("copying process {} takes {} MiB of memory, and {} MiB are free", pid, needed_bytes >> 20,
                      available_bytes >> 20),
          "free memory, or take a core to disk with gcore and analyse that"};
}

// Runs `work` in an OS thread of its own that no signal reaches.
Status in_own_thread(const std::function<void()>& work) {
  // Stopped from its terminal, heapcore would leave the target stopped as well.
  sigset_t all;
  sigset_t before;
  sigset_t from_terminal;
  sigemptyset(&from_terminal);
  for (const int signal : {SIGTSTP, SIGTTIN, SIGTTOU}) sigaddset(&from_terminal, signal);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  Status status = std::monostate{};
  try {
    std::thread thread(work);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_sigmask(SIG_BLOCK, &from_terminal, nullptr);
    thread.join();
  } catch (const std::system_error& error) {
    status = Error{ErrorCode::kNoMemory, fmt::format("no thread can be started: {}", error.what()),
                   "raise the limit on processes (ulimit -u)"};
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return status;
}

void read_identity(const ProcDir& proc, Capture& capture) {
  const std::string task = fmt::format("task/{}/", capture.plan.tid);
  capture.executable = proc.link(task + "exe");
  capture.command = proc.read(task + "cmdline", kCommandBytes).value_or("");
  capture.auxv = live::parse_auxv(proc.read(task + "auxv", 65536).value_or(""));
  for (const Tracer::Thread& thread : capture.threads) {
    std::string name = proc.read(fmt::format("task/{}/comm", thread.tid), 64).value_or("");
    if (name.ends_with('\n')) name.pop_back();
    capture.thread_names.push_back(std::move(name));
  }
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
  read_identity(proc, capture);
  return std::monostate{};
}

Status stop_and_copy(const ProcDir& proc, HostMemory& host, std::uint64_t budget_bytes, bool last_attempt,
                     Capture& capture) {
  Tracer tracer(proc);
  Status status = tracer.stop(kStopLimit);
  if (!status) {
    tracer.detach();
    const auto& refusal = tracer.refusal();
    if (refusal) return live::access_error(proc, refusal->tid, refusal->error_number);
    return status;
  }
  capture.threads = tracer.threads();
  status = copy_stopped(proc, host, budget_bytes, last_attempt, capture);
  tracer.detach();
  capture.pause_seconds = tracer.pause_seconds();
  return status;
}

std::vector<Thread> make_threads(const Capture& capture, std::int32_t pid, Findings& findings) {
  std::vector<Thread> threads;
  for (std::size_t i = 0; i < capture.threads.size(); ++i) {
    const Tracer::Thread& source = capture.threads[i];
    Thread thread;
    thread.tid = source.tid;
    thread.name = i < capture.thread_names.size() ? capture.thread_names[i] : std::string();
    thread.user_regs = source.user_regs;
    thread.pc = source.user_regs[kRip];
    thread.sp = source.user_regs[kRsp];
    thread.thread_pointer = source.user_regs[kFsBase];
    if (source.state == Tracer::State::kHeld) {
      findings.add(
          {"live-thread-held", Room::kCoreparse, 0,
           fmt::format("thread {} sat in the kernel and could not be stopped; its registers are not known, and "
                       "what the kernel was writing for it may be half written",
                       thread.tid)});
    }
    threads.push_back(std::move(thread));
  }
  std::stable_partition(threads.begin(), threads.end(), [&](const Thread& thread) { return thread.tid == pid; });
  return threads;
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
  snapshot.info.kind = TargetKind::kProcess;
  snapshot.info.pid = proc.pid();
  snapshot.info.executable = std::move(capture.executable);
  snapshot.info.command = std::move(capture.command);
  std::replace(snapshot.info.command.begin(), snapshot.info.command.end(), '\0', ' ');
  while (snapshot.info.command.ends_with(' ')) snapshot.info.command.pop_back();
  snapshot.info.architecture = "x86_64";
  snapshot.info.pause_seconds = capture.pause_seconds;
  snapshot.threads = make_threads(capture, proc.pid(), snapshot.findings);
  snapshot.auxv = std::move(capture.auxv);
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
  Result<ProcDir> proc = live::find_target(pid);
  if (!proc) return proc.error();
  for (int attempt = 1;; ++attempt) {
    HostMemory host;
    std::uint64_t budget_bytes = 0;
    Status status = prepare(*proc, host, budget_bytes, progress);
    if (!status) return status.error();
    Capture capture;
    Status captured = std::monostate{};
    const bool last = attempt == kAttempts;
    status = in_own_thread([&] { captured = stop_and_copy(*proc, host, budget_bytes, last, capture); });
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
