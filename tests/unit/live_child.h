// Processes for the live tests to look at. Each is a fork of the test, tells through shared memory how far it is, and
// is killed and taken when its Child goes (or with the test, whatever happens to that).
#pragma once

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <functional>
#include <new>
#include <thread>

#include "coreparse/live_proc.h"

namespace heapcore::live {

// What a child and the test both see.
struct Shared {
  std::atomic<bool> ready{false};
  std::atomic<std::uint64_t> counter{0};
  std::atomic<std::uint64_t> signals{0};
  std::atomic<std::uint64_t> addresses[16] = {};
  std::atomic<std::uint64_t> thread_pointers[64] = {};
  char text[4096] = {};
};

// Waits up to ten seconds for `condition`.
inline bool eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

class Child {
 public:
  // `body` runs in the child, which exits with what it returns.
  explicit Child(const std::function<int(Shared&)>& body) {
    void* memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared_ = new (memory) Shared;
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::_exit(body(*shared_));
  }
  ~Child() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::munmap(shared_, sizeof(Shared));
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  Shared& shared() { return *shared_; }
  bool wait_ready() {
    return eventually([&] { return shared_->ready.load(); });
  }
  bool counts_on() {
    const std::uint64_t before = shared_->counter;
    return eventually([&] { return shared_->counter != before; });
  }
  // Waits for its end and takes it; the status as waitpid() gives it.
  int wait_end() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }
  char state() const {
    const auto proc = ProcDir::open(pid_);
    const auto task = proc ? proc->state(pid_) : std::nullopt;
    return task ? task->state : '?';
  }
  std::int32_t tracer() const {
    const auto proc = ProcDir::open(pid_);
    const auto status = proc ? proc->status(pid_) : std::nullopt;
    return status ? status->tracer : -1;
  }

 private:
  pid_t pid_ = -1;
  Shared* shared_ = nullptr;
};

[[noreturn]] inline void count_for_ever(Shared& shared) {
  shared.ready = true;
  while (true) ++shared.counter;
}

[[noreturn]] inline void sleep_for_ever(Shared& shared) {
  shared.ready = true;
  while (true) ::pause();
}

}  // namespace heapcore::live
