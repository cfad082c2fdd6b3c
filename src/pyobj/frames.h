// The frames of running Python functions: each thread's, the innermost first.
//
// To 3.10 a frame is an object and its thread's are linked by f_back. From 3.11 on it is a _PyInterpreterFrame on the
// thread's own stack, in a generator or in a frame object, linked by `previous`; between those of Python functions lie
// frames of the interpreter itself, which hold nothing and are left out.
//
// Every walk ends at what it met before.
#pragma once

#include <vector>

#include "coreparse/address_space.h"
#include "pyobj/runtime.h"

namespace heapcore {

// PyThreadStates, as the interpreter lists them: the newest first.
std::vector<Addr> thread_states(Reader& reader, const PyRuntime& runtime, const Interpreter& interpreter);

// Frame objects, or from 3.11 on _PyInterpreterFrames.
std::vector<Addr> frames_of_thread(Reader& reader, const PyTraits& traits, Addr thread);

// The same frames, by the run of the evaluation loop that they are in, that is, by its native frame. To 3.10 each has
// one of its own; from 3.11 on Python functions that call each other share one.
struct EvaluationRun {
  std::vector<Addr> frames;  // the innermost first
  Addr on_stack = 0;         // a variable of that native frame's; 0 where it has none that is known (to 3.10)
};
std::vector<EvaluationRun> frames_by_evaluation(Reader& reader, const PyTraits& traits, Addr thread);

// Are the frames objects?
bool frames_are_objects(const PyTraits& traits);

// The code object that a frame runs; 0 if there is none.
Addr frame_code(Reader& reader, const PyTraits& traits, Addr frame);

// Where a running frame may keep what it computes with. How much of it is in use the frame does not say.
AddrRange evaluation_stack(Reader& reader, const PyTraits& traits, Addr frame);

}  // namespace heapcore
