// What is taken of a process while it stands still, besides its memory, and the thread of ours that makes it stand.
// Private to coreparse.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "coreparse/core_head.h"
#include "coreparse/live_ptrace.h"
#include "coreparse/snapshot.h"

namespace heapcore::live {

struct Standstill {
  std::vector<Tracer::Thread> threads;
  std::vector<std::string> thread_names;  // of each of threads
  std::string executable;
  std::string command;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> auxv;
  double pause_seconds = 0;
  bool stopped = false;  // false: it ran on, and no registers are known
};

// Stops the process, unless `stop` is false: then its threads are only listed. REQUIRES: `tracer` is this thread's own.
Status begin_standstill(const ProcDir& proc, bool stop, Tracer& tracer, Standstill& standstill);
// Names and the like, reached through thread `tid`.
void read_identity(const ProcDir& proc, std::int32_t tid, Standstill& standstill);
// Of the threads that stand still. REQUIRES: this is the tracer's thread.
FloatRegisters read_float_registers(const Standstill& standstill);
void end_standstill(Tracer& tracer, Standstill& standstill);

// Moves what the standstill told into the snapshot; findings for what it could not.
void describe_process(Standstill& standstill, std::int32_t pid, Snapshot& snapshot);

// Runs `work` in an OS thread of its own that no signal reaches, and `meanwhile` in this one. kNoMemory if there is no
// thread to be had, or no memory for `work`.
Status in_own_thread(
    const std::function<void()>& work, const std::function<void()>& meanwhile = [] {});

}  // namespace heapcore::live
