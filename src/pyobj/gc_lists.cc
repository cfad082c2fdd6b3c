#include "pyobj/gc_lists.h"

namespace heapcore {

std::vector<GcListHead> gc_list_heads(const PyRuntime& runtime) {
  constexpr int kGenerations = 3;  // NUM_GENERATIONS
  const PyLayout& layout = *runtime.traits.layout;
  std::vector<GcListHead> heads;
  for (const Interpreter& interpreter : runtime.interpreters) {
    const Addr generations = interpreter.address + layout.PyInterpreterState.gc_generations.offset;
    for (int i = 0; i < kGenerations; ++i) {
      heads.push_back({generations + std::uint64_t(i) * layout.gc_generation.size_bytes, false});
    }
    heads.push_back({interpreter.address + layout.PyInterpreterState.gc_permanent_generation.offset, true});
  }
  return heads;
}

}  // namespace heapcore
