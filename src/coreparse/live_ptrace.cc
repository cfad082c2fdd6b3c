#include "coreparse/live_ptrace.h"

#include <elf.h>
#include <fmt/format.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <thread>

namespace heapcore::live {
namespace {

// How long a thread is waited for before we ask whether it can stop at all.
constexpr std::chrono::milliseconds kPatience{100};
constexpr std::chrono::microseconds kShortestNap{20};
constexpr std::chrono::microseconds kLongestNap{1000};

static_assert(sizeof(Tracer::Thread::user_regs) == sizeof(user_regs_struct));

long trace(__ptrace_request request, std::int32_t tid, std::uintptr_t address, std::uintptr_t data) {
  return ::ptrace(request, tid, reinterpret_cast<void*>(address), reinterpret_cast<void*>(data));
}

}  // namespace

Status Tracer::stop(std::chrono::milliseconds limit) {
  const Clock::time_point deadline = Clock::now() + limit;
  // A thread may start others until it stops, so look again until a look finds nothing new after all had stopped.
  while (true) {
    const bool found_new = seize_new_threads();
    if (refusal_ || odd_registers_bytes_) return failure();
    bool settled = !found_new;
    // An exec kills all threads but one, even stopped ones, and gives that one the process's pid as its tid.
    for (Thread& thread : threads_) {
      if (thread.state != State::kStopped || read_registers(thread)) continue;
      thread.state = State::kWaiting;
      thread.signal = 0;
      interrupt(thread);
      settled = false;
    }
    if (settled) break;
    if (!wait_for_stops(deadline) || odd_registers_bytes_) return failure();
    drop_gone();
  }
  if (threads_.empty()) {
    return Error{ErrorCode::kProcessGone, fmt::format("process {} ended while heapcore was stopping it", proc_.pid()),
                 "nothing is left to look at; a core file would have stayed (ulimit -c unlimited)"};
  }
  return std::monostate{};
}

Status Tracer::failure() const {
  if (odd_registers_bytes_) {
    return Error{ErrorCode::kWrongArchitecture,
                 fmt::format("process {} runs 32-bit code: its threads have {} bytes of registers, not {}", proc_.pid(),
                             *odd_registers_bytes_, sizeof(user_regs_struct)),
                 "heapcore reads 64-bit x86-64 processes"};
  }
  if (refusal_) {
    return Error{ErrorCode::kNotPermitted,
                 fmt::format("thread {} of process {} may not be traced: {}", refusal_->tid, proc_.pid(),
                             errno_text(refusal_->error_number)),
                 ""};
  }
  std::int32_t late = 0;
  for (const Thread& thread : threads_) {
    if (thread.state == State::kWaiting) late = thread.tid;
  }
  return Error{ErrorCode::kIo,
               fmt::format("thread {} of process {} did not stop in time; the process was let go", late, proc_.pid()),
               "the machine may be overloaded; try again, or take a core with gcore"};
}

bool Tracer::seize_new_threads() {
  const std::vector<std::int32_t> tids = proc_.threads();
  std::vector<Thread> added;
  auto known = threads_.begin();
  for (const std::int32_t tid : tids) {
    while (known != threads_.end() && known->tid < tid) ++known;
    if (known != threads_.end() && known->tid == tid) continue;
    if (trace(PTRACE_SEIZE, tid, 0, 0) != 0) {
      const int number = errno;
      const std::optional<TaskState> task = proc_.state(tid);
      // A thread that has ended, or does so now, cannot be traced and need not be.
      if (number == ESRCH || !task || task->ended()) continue;
      refusal_ = Refusal{tid, number};
      break;
    }
    if (!telling_) began_ = ended_ = Clock::now();
    telling_ = true;
    added.push_back({});
    added.back().tid = tid;
    interrupt(added.back());
  }
  const bool found_new = !added.empty();
  const auto middle = threads_.insert(threads_.end(), added.begin(), added.end());
  std::inplace_merge(threads_.begin(), middle, threads_.end(),
                     [](const Thread& a, const Thread& b) { return a.tid < b.tid; });
  return found_new;
}

void Tracer::interrupt(Thread& thread) {
  thread.told = Clock::now();
  // Fails only for a thread that is ending, which waiting will tell.
  trace(PTRACE_INTERRUPT, thread.tid, 0, 0);
}

bool Tracer::wait_for_stops(Clock::time_point deadline) {
  std::chrono::microseconds nap = kShortestNap;
  while (true) {
    bool all = true;
    for (Thread& thread : threads_) {
      if (thread.state == State::kWaiting) look_at(thread);
      all = all && thread.state != State::kWaiting;
    }
    if (all) return true;
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(nap);
    nap = std::min(nap * 2, kLongestNap);
  }
}

void Tracer::look_at(Thread& thread) {
  const auto id = static_cast<id_t>(thread.tid);
  siginfo_t info{};
  if (::waitid(P_PID, id, &info, WSTOPPED | WEXITED | WNOHANG | WNOWAIT | __WALL) != 0) {
    if (errno == ECHILD) thread.state = State::kGone;
    return;
  }
  if (info.si_pid == 0) {
    if (Clock::now() - thread.told < kPatience) return;
    const std::optional<TaskState> task = proc_.state(thread.tid);
    if (task && task->state == 'D') thread.state = State::kHeld;
    thread.told = Clock::now();
    return;
  }
  if (info.si_code == CLD_EXITED || info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED) {
    thread.state = State::kGone;
    // An exec in another thread waits until we have taken this one's end. That of the main thread is its parent's to
    // take.
    if (thread.tid != proc_.pid()) ::waitid(P_PID, id, &info, WEXITED | WNOHANG | __WALL);
    return;
  }
  if (!read_registers(thread)) return;  // killed since; the next look will tell
  thread.state = State::kStopped;
  // An event in the upper byte is the stop we asked for, or a group-stop; without one, a signal is being delivered.
  thread.signal = (info.si_status >> 8) == 0 ? info.si_status & 0x7f : 0;
}

bool Tracer::read_registers(Thread& thread) {
  iovec registers{thread.user_regs.data(), sizeof thread.user_regs};
  if (trace(PTRACE_GETREGSET, thread.tid, NT_PRSTATUS, reinterpret_cast<std::uintptr_t>(&registers)) != 0) return false;
  if (registers.iov_len != sizeof(user_regs_struct)) odd_registers_bytes_ = registers.iov_len;
  return true;
}

void Tracer::drop_gone() {
  std::erase_if(threads_, [](const Thread& thread) { return thread.state == State::kGone; });
}

void Tracer::detach() {
  // Fails for threads that were killed, and for those that never stopped: the end of this OS thread lets the latter go.
  for (const Thread& thread : threads_) trace(PTRACE_DETACH, thread.tid, 0, static_cast<std::uintptr_t>(thread.signal));
  if (!threads_.empty()) ended_ = Clock::now();
  threads_.clear();
}

}  // namespace heapcore::live
