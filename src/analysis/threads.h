// What every thread was doing: Python's frames put in their places among the native ones, what each frame's locals
// hold, and the asyncio tasks that wait.
//
// The two stacks are matched by the evaluation loop: each native frame of it runs one Python frame, or from 3.11 on a
// run of them. Where their numbers differ (a stack that could not be unwound), Python's frames come first and the
// native ones behind.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "analysis/holders.h"
#include "pyobj/values.h"

namespace heapcore {

struct FrameLocal {
  std::string name;
  Addr address = 0;
  std::string type;
  std::uint64_t bytes = 0;
  std::uint64_t retained_bytes = 0;  // what goes if the object goes
  bool held_here_only = false;       // nothing but this frame, and what it called, holds it
  bool held_by_caller = false;       // and what called this frame
};

struct StackFrame {
  bool is_python = false;
  Addr address = 0;      // of Python's frame; of a native one the instruction
  std::string function;  // empty where unknown
  std::string file;      // of Python code; of a native frame its module's
  int line = 0;          // of Python code
  std::vector<FrameLocal> locals;
  std::uint64_t retained_bytes = 0;  // what goes when it returns (frame_holdings.h)
};

struct ThreadRow {
  std::int32_t tid = 0;  // 0 where the native thread is not known
  std::string name;      // as the kernel has it
  std::string python_name;
  Addr state = 0;  // PyThreadState; 0: it never ran Python code, or no longer does
  std::int64_t interpreter = 0;
  std::vector<StackFrame> frames;  // the innermost first
  std::string cut_short;           // why the native part may not be whole; empty if it is
};

struct TaskRow {
  Addr address = 0;
  std::string name;
  std::string state;
  Addr coroutine = 0;
  std::optional<FramePlace> place;  // where its coroutine stands
  Addr waits_for = 0;
  std::string waits_for_type;
  std::uint64_t retained_bytes = 0;
};

struct ThreadsAnswer {
  std::vector<ThreadRow> threads;  // as the snapshot has them; then states without one
  std::vector<TaskRow> tasks;      // by address; those that have not ended
  std::uint64_t tasks_ended = 0;
};

// REQUIRES: process.runtime() != nullptr.
ThreadsAnswer find_threads(const Process& process, const Holders& holders, bool values, Findings& findings);

}  // namespace heapcore
