// Dicts, their keys tables, values and indices, ordered dicts and sets with some of their fields changed.
#include "decode.h"
#include "sound_heap.h"

using namespace heapcore;

HEAPCORE_FUZZ_TARGET(dicts, const fuzz::Bytes input) {
  static const fuzz::HeapTarget target = {{"pythons/3.11.2.core.xz", "pythons/2.7.18.core.xz", "pythons/3.6.15.core.xz",
                                           "pythons/3.14.10.core.xz", "pythons/3.13.5t.core.xz"},
                                          [](damage::Group, const std::string& site) {
                                            return site.starts_with("PyDict") || site.starts_with("PyODict") ||
                                                   site.starts_with("PySet") || site.starts_with("pre-header") ||
                                                   site.find("ht_cached_keys") != std::string::npos ||
                                                   site.find("(dict") != std::string::npos ||
                                                   site.find("(ordered dict") != std::string::npos;
                                          },
                                          fuzz::decode};
  fuzz::run_damaged(target, input);
}
