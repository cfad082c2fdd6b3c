// Any bytes as an ELF core: headers, program headers, notes. What is promised of a core that is taken: segments lie
// within the file, and nothing crashes or runs without end.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "coreparse/elf_core.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace heapcore;
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  Findings findings;
  const Result<CoreHeaders> headers = read_core_headers(file, "fuzz", findings);
  if (!headers) return 0;
  for (const Segment& segment : headers->segments) {
    if (segment.bytes == nullptr) continue;
    const auto offset = static_cast<std::uint64_t>(segment.bytes - file.data());
    if (offset > size || segment.size_bytes() > size - offset) std::abort();
  }
  return 0;
}
