#include "pyobj/gc_lists.h"

namespace heapcore {

std::vector<GcListHead> gc_list_heads(const PyRuntime& runtime) {
  constexpr int kGenerations = 3;  // NUM_GENERATIONS
  const PyLayout& layout = *runtime.traits.layout;
  std::vector<GcListHead> heads;
  if (runtime.traits.gc_head == GcHead::kNone) return heads;
  const auto add_generations = [&](Addr generations) {
    for (int i = 0; i < kGenerations; ++i) {
      heads.push_back({generations + std::uint64_t(i) * layout.gc_generation.size_bytes, false, i});
    }
  };
  if (runtime.traits.gc_home != GcHome::kInterpreter) {
    if (runtime.shared_generations != 0) add_generations(runtime.shared_generations);
    if (runtime.shared_permanent != 0) heads.push_back({runtime.shared_permanent, true});
    return heads;
  }
  for (const Interpreter& interpreter : runtime.interpreters) {
    add_generations(interpreter.address + layout.PyInterpreterState.gc_generations.offset);
    heads.push_back({interpreter.address + layout.PyInterpreterState.gc_permanent_generation.offset, true});
  }
  return heads;
}

}  // namespace heapcore
