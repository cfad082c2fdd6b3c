#include "coreparse/live_ptrace.h"

#include <elf.h>
#include <fmt/format.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

namespace heapcore::live {
namespace {

// How long a thread is waited for before we look what it does, and before we believe that it cannot stop.
constexpr std::chrono::milliseconds kPatience{10};
constexpr std::chrono::milliseconds kLongPatience{100};
constexpr std::chrono::microseconds kShortestNap{20};
constexpr std::chrono::microseconds kLongestNap{1000};

static_assert(sizeof(Tracer::Thread::user_regs) == sizeof(user_regs_struct));

long trace(__ptrace_request request, std::int32_t tid, std::uintptr_t address, std::uintptr_t data) {
  return ::ptrace(request, tid, reinterpret_cast<void*>(address), reinterpret_cast<void*>(data));
}

bool is_end(int code) {
  return code == CLD_EXITED || code == CLD_KILLED || code == CLD_DUMPED;
}

// Whether a tracee has ended; then its end is taken, unless it is the main thread, whose end is its parent's to take.
bool take_end_of(std::int32_t tid, std::int32_t pid) {
  const auto id = static_cast<id_t>(tid);
  // Waiting reports a tracee's stops whether asked to or not, so look before taking: a stop must stay where it is.
  siginfo_t info{};
  if (::waitid(P_PID, id, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) != 0) return true;
  if (info.si_pid == 0 || !is_end(info.si_code)) return false;
  if (tid != pid) ::waitid(P_PID, id, &info, WEXITED | WNOHANG | __WALL);
  return true;
}

// Takes the ends of tracees while the tracing thread cannot. PTRACE_SEIZE waits for an exec in progress, and that exec
// waits until all ends of the process's other threads are taken: without this, the two would wait for each other for
// ever.
class EndTaker {
 public:
  explicit EndTaker(const ProcDir& proc) : proc_(proc) {
    try {
      thread_ = std::thread([this] { run(); });
    } catch (const std::system_error&) {
      // Only a process that execs in just this moment needs it.
    }
  }
  ~EndTaker() {
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
    }
    wake_.notify_one();
    if (thread_.joinable()) thread_.join();
  }
  EndTaker(const EndTaker&) = delete;
  EndTaker& operator=(const EndTaker&) = delete;

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, kPatience, [this] { return done_; })) {
      try {
        take_ends();
      } catch (const std::bad_alloc&) {
        // Perhaps there is memory the next time.
      }
    }
  }

  void take_ends() {
    for (const std::int32_t tid : proc_.threads()) {
      const std::optional<TaskState> task = proc_.state(tid);
      if (task && task->ended()) take_end_of(tid, proc_.pid());
    }
  }

  const ProcDir& proc_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace

Status Tracer::stop(std::chrono::milliseconds limit) {
  const EndTaker end_taker(proc_);
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
    if (Clock::now() > deadline || !wait_for_stops(deadline) || odd_registers_bytes_) return failure();
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
  bool try_again = false;
  const auto add = [&](std::int32_t tid) {
    added.push_back({});
    added.back().tid = tid;
    added.back().added = Clock::now();
    interrupt(added.back());
  };
  auto known = threads_.begin();
  for (const std::int32_t tid : tids) {
    while (known != threads_.end() && known->tid < tid) ++known;
    if (known != threads_.end() && known->tid == tid) continue;
    if (trace(PTRACE_SEIZE, tid, 0, 0) != 0) {
      const int number = errno;
      const std::optional<TaskState> task = proc_.state(tid);
      // A thread that has ended, or does so now, cannot be traced and need not be.
      if (number == ESRCH || !task || task->ended()) continue;
      const std::optional<TaskStatus> status = proc_.status(tid);
      if (status && status->tracer == ::gettid()) {  // we lost sight of it in an exec
        add(tid);
        continue;
      }
      // In the middle of an exec the tid of the main thread passes from one that has ended to another; ask again.
      if (second_tries_-- > 0) {
        try_again = true;
        std::this_thread::sleep_for(kLongestNap);
        continue;
      }
      refusal_ = Refusal{tid, number};
      break;
    }
    if (!telling_) began_ = ended_ = Clock::now();
    telling_ = true;
    add(tid);
  }
  const bool found_new = try_again || !added.empty();
  const auto middle = threads_.insert(threads_.end(), added.begin(), added.end());
  std::inplace_merge(threads_.begin(), middle, threads_.end(),
                     [](const Thread& a, const Thread& b) { return a.tid < b.tid; });
  return found_new;
}

bool Tracer::interrupt(Thread& thread) {
  thread.told = Clock::now();
  return trace(PTRACE_INTERRUPT, thread.tid, 0, 0) == 0;  // fails for one that is not traced or has ended
}

bool Tracer::wait_for_stops(Clock::time_point deadline) {
  std::chrono::microseconds nap = kShortestNap;
  while (true) {
    bool all = true;
    for (Thread& thread : threads_) {
      if (thread.state == State::kWaiting) look_at(thread);
      // An exec meanwhile kills the threads that have stopped already, and waits until we have taken their ends.
      if (thread.state == State::kStopped && nap == kLongestNap) take_end(thread);
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
    if (Clock::now() - thread.told >= kPatience) ask_state(thread);
    return;
  }
  if (is_end(info.si_code)) {
    take_end(thread);
    return;
  }
  if (!read_registers(thread)) return;  // killed since; the next look will tell
  thread.state = State::kStopped;
  // An event in the upper byte is the stop we asked for, or a group-stop; without one, a signal is being delivered.
  thread.signal = (info.si_status >> 8) == 0 ? info.si_status & 0x7f : 0;
}

void Tracer::take_end(Thread& thread) {
  if (take_end_of(thread.tid, proc_.pid())) thread.state = State::kGone;
}

void Tracer::ask_state(Thread& thread) {
  const std::optional<TaskState> task = proc_.state(thread.tid);
  // The end of a main thread is not reported before that of the others.
  if (!task || task->ended()) thread.state = State::kGone;
  if (task && task->state == 'D' && Clock::now() - thread.added >= kLongPatience) thread.state = State::kHeld;
  // An exec may have made it forget, or may have given its tid to a thread that we do not trace yet.
  if (thread.state == State::kWaiting && !interrupt(thread)) thread.state = State::kGone;
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
