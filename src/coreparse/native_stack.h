// The native call stack of a thread, unwound by libdw as far as the call frame information of files goes that are
// proved to be the target's.
//
// Registers and memory are the snapshot's. No file is looked for that the snapshot did not find, and nothing is
// fetched. Work is bounded: kMaxNativeFrames a thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "coreparse/snapshot.h"

namespace heapcore {

inline constexpr std::size_t kMaxNativeFrames = 10000;

struct NativeFrame {
  Addr pc = 0;
  Addr sp = 0;           // the frame's own part of the stack begins here and ends at the next one's; 0 if unknown
  std::string function;  // by symbol; empty where none is known
  std::string module;    // the file's last part; empty outside of all modules
};

struct NativeStack {
  std::vector<NativeFrame> frames;  // the innermost first
  std::string cut_short;            // why it may not be whole; empty if it is
};

class NativeUnwinder {
 public:
  // Keeps a reference to `snapshot`.
  explicit NativeUnwinder(const Snapshot& snapshot);
  ~NativeUnwinder();
  NativeUnwinder(NativeUnwinder&&) = delete;

  // REQUIRES: `thread` is one of the snapshot's.
  NativeStack unwind(const Thread& thread);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace heapcore
