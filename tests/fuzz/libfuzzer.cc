// libFuzzer's entry, for the one target that is linked with it.
#include "target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  heapcore::fuzz::Target::first->run({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
