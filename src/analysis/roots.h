// What holds objects from outside: running functions' frames, the interpreter's own state, static data, native stacks.
//
// Two sorts: references that are known to be such (exact), and words that may be, which the caller must judge. Every
// word is looked at once, in the order of this header, then of addresses.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "analysis/graph.h"
#include "analysis/process.h"
#include "pyobj/references.h"

namespace heapcore {

enum class RootKind : std::uint8_t {
  kFrame,        // a running function: its locals, what it computes with
  kThread,       // a PyThreadState's own
  kInterpreter,  // a PyInterpreterState's own: modules, builtins, codecs
  kRuntime,      // _PyRuntime's
  kStatic,       // a word in a module's data
  kStack,        // a native stack, a register, or thread-local data
  kImmortal,     // needs no holder
  kUnexplained,  // its reference count exceeds the references found
  kUnreachable,  // nothing found leads to it: garbage, or held by what cannot be seen
};

std::string_view root_kind_name(RootKind kind);

struct RootWord {
  Addr target = 0;
  RootKind kind = RootKind::kUnexplained;
  Addr place = 0;  // of the word that refers to it; of a frame, the frame; 0 where there is none
  EdgeName edge;   // of a frame: what of it refers to the target
};

// A root as the graph has it.
struct RootRef {
  NodeId target = kNoNode;
  RootWord word;
};

// Does it hold what Python code reaches by name: modules, builtins?
bool is_namespace(const PyRuntime& runtime, const RootWord& root);

// Where a thread's native stack is in use, and its thread-local data, which may lie at the end of it.
struct StackRanges {
  AddrRange stack;
  AddrRange thread_local_data;  // empty if it is part of the stack
};

StackRanges stack_ranges(const Snapshot& snapshot, const Thread& thread);

class RootFinder {
 public:
  using Visit = std::function<void(const RootWord&)>;

  RootFinder(const Process& process, TypeTable& types);

  // Of each thread's frames: the locals, the function; where frames are objects, themselves.
  void exact(const Visit& visit);
  // What the frames compute with.
  void evaluation_stacks(const Visit& visit);
  // The words of thread states, interpreters' states, _PyRuntime, and the writable data of every module.
  void words(const Visit& visit);
  // Native stacks from the stack pointer up, registers, thread-local data.
  void stacks(const Visit& visit);

  // Where the structures begin that words() looks at by name.
  const std::vector<Addr>& structures() const { return structures_; }
  // Call once, at the end.
  const Findings& findings() const { return references_.findings(); }

 private:
  struct Named {
    AddrRange range;
    RootKind kind;
  };

  void add_structure(Addr address, std::uint32_t size_bytes, RootKind kind);
  void sweep_around(AddrRange range, RootKind kind, const std::vector<AddrRange>& inner, const Visit& visit);
  void sweep(AddrRange range, RootKind kind, const Visit& visit);

  const Process& process_;
  const PyRuntime& runtime_;
  Reader reader_;
  ReferenceReader references_;
  std::vector<Addr> structures_;
  std::vector<Named> named_;  // by kind
  std::vector<Addr> frames_;  // of all threads
};

}  // namespace heapcore
