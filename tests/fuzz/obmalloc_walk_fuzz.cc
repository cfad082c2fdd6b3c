// CPython's allocators with some of their fields changed: obmalloc's arenas, pools and free lists; mimalloc's segments,
// pages and lists. What is promised: the totals add up.
#include "pyobj/mimalloc.h"
#include "pyobj/obmalloc.h"
#include "sound_heap.h"

using namespace heapcore;

namespace {

void walk(Process& process, const std::vector<Addr>&) {
  Findings findings;
  const PyRuntime& runtime = *process.runtime();
  const std::optional<ObmallocUse> use = summarise_allocator(process.snapshot, runtime, findings);
  if (use) {
    fuzz::promise(use->bytes == use->bytes_in_use + use->bytes_free + use->bytes_overhead + use->bytes_lost,
                  "an allocator's bytes are in use, free, overhead or lost");
  }
  check_mi_heaps(process.snapshot, runtime, findings);
  Reader reader(process.snapshot.space);
  static_cast<void>(read_delayed_frees(reader, runtime, findings));
  if (runtime.arenas) {
    static_cast<void>(verify_arena_table(reader, runtime.traits, *runtime.arenas));
    static_cast<void>(plausible_arena_count(reader, runtime.traits, runtime.arenas->address));
  }
}

}  // namespace

HEAPCORE_FUZZ_TARGET(obmalloc_walk, const fuzz::Bytes input) {
  static const fuzz::HeapTarget target = {
      {"pythons/3.11.2.core.xz", "pythons/2.7.18.core.xz", "pythons/3.13.5t.core.xz"},
      [](damage::Group group, const std::string&) { return group == damage::Group::kObmalloc; },
      walk};
  fuzz::run_damaged(target, input);
}
