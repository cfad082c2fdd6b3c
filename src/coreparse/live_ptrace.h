// Stops every thread of a process, and lets it go again. Private to coreparse.
//
// Invariants: the process is never written to. Whatever becomes of us, the kernel lets the process go on: nothing is
// set that outlives the tracing thread (no PTRACE_O_EXITKILL), and stop events are only looked at (WNOWAIT), never
// taken, so that a signal that was being delivered is delivered even if we are killed. A process that was stopped
// before stays stopped. Use one Tracer in one OS thread of its own, and end that thread with it: threads of the target
// that sat in the kernel and so could not be detached are let go by the kernel when the tracing thread ends.
//
// Sources: ptrace(2) "Attaching and detaching", "Group-stop", "Death under ptrace"; waitid(2).
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coreparse/live_proc.h"
#include "support/result.h"

namespace heapcore::live {

class Tracer {
 public:
  using Clock = std::chrono::steady_clock;

  enum class State : std::uint8_t {
    kWaiting,  // told to stop
    kStopped,
    kHeld,  // asleep in the kernel, uninterruptibly; it stops before it runs any of its own code again
    kGone,  // ended, or has another tid since an exec
  };

  struct Thread {
    std::int32_t tid = 0;
    State state = State::kWaiting;
    int signal = 0;  // it was about to receive when it stopped; passed on by detach()
    Clock::time_point added{};
    Clock::time_point told{};                   // last
    std::array<std::uint64_t, 27> user_regs{};  // struct user_regs_struct; zero unless stopped
  };

  // Why a thread could not be traced.
  struct Refusal {
    std::int32_t tid = 0;
    int error_number = 0;
  };

  explicit Tracer(const ProcDir& proc) : proc_(proc) {}
  ~Tracer() { detach(); }
  Tracer(const Tracer&) = delete;
  Tracer& operator=(const Tracer&) = delete;

  // Stops all threads, also those that start meanwhile. On failure the process may be partly stopped until detach().
  // kNotPermitted: see refusal().
  Status stop(std::chrono::milliseconds limit);
  // Lets every thread go. May be called again.
  void detach();

  const std::vector<Thread>& threads() const { return threads_; }
  const std::optional<Refusal>& refusal() const { return refusal_; }
  // From the first thread told to stop to the last one let go.
  double pause_seconds() const { return std::chrono::duration<double>(ended_ - began_).count(); }

 private:
  bool seize_new_threads();
  bool wait_for_stops(Clock::time_point deadline);
  void look_at(Thread& thread);
  void take_end(Thread& thread);
  void ask_state(Thread& thread);
  bool read_registers(Thread& thread);
  bool interrupt(Thread& thread);
  void drop_gone();
  Status failure() const;

  const ProcDir& proc_;
  std::vector<Thread> threads_;  // by tid
  std::optional<Refusal> refusal_;
  int second_tries_ = 10;  // left, for all threads together
  std::optional<std::size_t> odd_registers_bytes_;
  bool telling_ = false;  // began_ is set
  Clock::time_point began_{};
  Clock::time_point ended_{};
};

}  // namespace heapcore::live
