// Thread states, frames, code objects and generators with some of their fields changed: stacks are walked and shown.
#include "decode.h"
#include "pyobj/frames.h"
#include "pyobj/references.h"
#include "pyobj/values.h"
#include "sound_heap.h"

using namespace heapcore;

namespace {

void walk(Process& process, const std::vector<Addr>& damaged) {
  Findings findings;
  const PyRuntime& runtime = *process.runtime();
  TypeTable types(process.snapshot, runtime);
  ReferenceReader references(process.snapshot, runtime, types);
  ValueReader values(process.snapshot, runtime, types, {true, 20, nullptr}, findings);
  Reader reader(process.snapshot.space);
  for (const Interpreter& interpreter : runtime.interpreters) {
    for (const Addr thread : thread_states(reader, runtime, interpreter)) {
      static_cast<void>(frames_by_evaluation(reader, runtime.traits, thread));
      for (const Addr frame : frames_of_thread(reader, runtime.traits, thread)) {
        static_cast<void>(values.place_of_frame(frame));
        static_cast<void>(frame_code(reader, runtime.traits, frame));
        static_cast<void>(evaluation_stack(reader, runtime.traits, frame));
        if (!frames_are_objects(runtime.traits))
          references.for_each_in_frame(frame, [](Addr, RefKind, const EdgeName&) {});
      }
    }
  }
  fuzz::decode(process, damaged);
}

}  // namespace

HEAPCORE_FUZZ_TARGET(frames, const fuzz::Bytes input) {
  static const fuzz::HeapTarget target = {
      {"three_threads.core.zst", "pythons/3.6.15.core.xz", "pythons/3.14.10.core.xz", "pythons/2.7.18.core.xz",
       "pythons/3.13.5t.core.xz"},
      [](damage::Group group, const std::string& site) {
        return group == damage::Group::kRuntime || site.starts_with("PyCode") || site.starts_with("PyFrame") ||
               site.starts_with("PyGen") || site.starts_with("PyCoro") || site.starts_with("PyTraceback") ||
               site.starts_with("PyAsyncGen") || site.find("(code") != std::string::npos ||
               site.find("(frame") != std::string::npos || site.find("(generator") != std::string::npos;
      },
      walk};
  fuzz::run_damaged(target, input);
}
