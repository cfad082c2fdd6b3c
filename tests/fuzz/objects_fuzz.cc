// Objects and types with some of their fields changed, or what their fields lead to.
#include "decode.h"
#include "sound_heap.h"

using namespace heapcore;

HEAPCORE_FUZZ_TARGET(objects, const fuzz::Bytes input) {
  static const fuzz::HeapTarget target = {{"pythons/3.11.2.core.xz", "pythons/2.7.18.core.xz", "pythons/3.6.15.core.xz",
                                           "pythons/3.14.10.core.xz", "pythons/3.13.5t.core.xz"},
                                          [](damage::Group group, const std::string&) {
                                            return group == damage::Group::kObjects || group == damage::Group::kTypes ||
                                                   group == damage::Group::kContents;
                                          },
                                          fuzz::decode};
  fuzz::run_damaged(target, input);
}
