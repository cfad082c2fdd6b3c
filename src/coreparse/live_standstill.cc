#include "coreparse/live_standstill.h"

#include <elf.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <new>
#include <system_error>
#include <thread>

#include "coreparse/live_target.h"

namespace heapcore::live {
namespace {

constexpr std::chrono::milliseconds kStopLimit{5000};
constexpr std::size_t kCommandBytes = 4096;
constexpr int kHighestPriority = -20;  // of this thread alone

// Places in struct user_regs_struct, x86-64.
constexpr std::size_t kRip = 16;
constexpr std::size_t kRsp = 19;
constexpr std::size_t kFsBase = 21;

std::vector<Thread> make_threads(const Standstill& standstill, std::int32_t pid, Findings& findings) {
  std::vector<Thread> threads;
  for (std::size_t i = 0; i < standstill.threads.size(); ++i) {
    const Tracer::Thread& source = standstill.threads[i];
    Thread thread;
    thread.tid = source.tid;
    thread.name = i < standstill.thread_names.size() ? standstill.thread_names[i] : std::string();
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

// Blocks signals in this thread for as long as it lives.
class BlockedSignals {
 public:
  explicit BlockedSignals(const sigset_t& blocked) { pthread_sigmask(SIG_BLOCK, &blocked, &before_); }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t before_;
};

struct Joiner {
  std::thread thread;
  ~Joiner() {
    if (thread.joinable()) thread.join();
  }
};

}  // namespace

Status begin_standstill(const ProcDir& proc, bool stop, Tracer& tracer, Standstill& standstill) {
  standstill.stopped = stop;
  if (!stop) {
    for (const std::int32_t tid : proc.threads()) {
      standstill.threads.push_back({});
      standstill.threads.back().tid = tid;
    }
    return std::monostate{};
  }
  // The process waits from here on: go before others, where that is allowed.
  ::setpriority(PRIO_PROCESS, 0, kHighestPriority);
  Status status = tracer.stop(kStopLimit);
  if (status) {
    standstill.threads = tracer.threads();
    return status;
  }
  tracer.detach();
  const auto& refusal = tracer.refusal();
  if (refusal) return access_error(proc, refusal->tid, refusal->error_number);
  return status;
}

void read_identity(const ProcDir& proc, std::int32_t tid, Standstill& standstill) {
  const std::string task = fmt::format("task/{}/", tid);
  standstill.executable = proc.link(task + "exe");
  standstill.command = proc.read(task + "cmdline", kCommandBytes).value_or("");
  standstill.auxv = parse_auxv(proc.read(task + "auxv", 65536).value_or(""));
  for (const Tracer::Thread& thread : standstill.threads) {
    std::string name = proc.read(fmt::format("task/{}/comm", thread.tid), 64).value_or("");
    if (name.ends_with('\n')) name.pop_back();
    standstill.thread_names.push_back(std::move(name));
  }
}

FloatRegisters read_float_registers(const Standstill& standstill) {
  FloatRegisters registers;
  for (const Tracer::Thread& thread : standstill.threads) {
    if (thread.state != Tracer::State::kStopped) continue;
    auto& bytes = registers[thread.tid];
    iovec to{bytes.data(), bytes.size()};
    if (::ptrace(PTRACE_GETREGSET, thread.tid, NT_PRFPREG, &to) != 0) registers.erase(thread.tid);
  }
  return registers;
}

void end_standstill(Tracer& tracer, Standstill& standstill) {
  if (!standstill.stopped) return;
  tracer.detach();
  standstill.pause_seconds = tracer.pause_seconds();
}

void describe_process(Standstill& standstill, std::int32_t pid, Snapshot& snapshot) {
  snapshot.info.kind = TargetKind::kProcess;
  snapshot.info.pid = pid;
  snapshot.info.executable = std::move(standstill.executable);
  snapshot.info.command = std::move(standstill.command);
  std::replace(snapshot.info.command.begin(), snapshot.info.command.end(), '\0', ' ');
  while (snapshot.info.command.ends_with(' ')) snapshot.info.command.pop_back();
  snapshot.info.architecture = "x86_64";
  snapshot.info.pause_seconds = standstill.pause_seconds;
  snapshot.threads = make_threads(standstill, pid, snapshot.findings);
  snapshot.auxv = std::move(standstill.auxv);
  if (standstill.stopped) return;
  snapshot.findings.add(
      {"live-not-stopped", Room::kCoreparse, 0,
       "the process ran on while it was being read (--no-stop): its memory is of no single moment, so "
       "what changed meanwhile may be torn, counted twice or missing, and no registers are known"});
}

Status in_own_thread(const std::function<void()>& work, const std::function<void()>& meanwhile) {
  // Stopped from its terminal, heapcore would leave the target stopped as well.
  sigset_t from_terminal;
  sigemptyset(&from_terminal);
  for (const int signal : {SIGTSTP, SIGTTIN, SIGTTOU}) sigaddset(&from_terminal, signal);
  const BlockedSignals never_stopped(from_terminal);
  bool no_memory = false;
  const auto guarded = [&] {
    try {
      work();
    } catch (const std::bad_alloc&) {
      no_memory = true;
    }
  };
  try {
    Joiner joiner;
    {
      sigset_t all;
      sigfillset(&all);
      const BlockedSignals inherited(all);
      joiner.thread = std::thread(guarded);
    }
    meanwhile();
  } catch (const std::system_error& error) {
    return Error{ErrorCode::kNoMemory, fmt::format("no thread can be started to read the process: {}", error.what()),
                 "raise --max-memory if it was given, or the limit on processes (ulimit -u)"};
  }
  if (!no_memory) return std::monostate{};
  return Error{ErrorCode::kNoMemory, "no memory left while the process stood still; it was let go",
               "free memory, or raise --max-memory or the limit on address space (ulimit -v)"};
}

}  // namespace heapcore::live
