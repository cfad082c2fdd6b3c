// Any bytes as an ELF core: headers, program headers, notes, and what the modules in it say of themselves. What is
// promised of a core that is taken: segments are disjoint and lie within the file, mappings cover the same bytes.
#include "coreparse/elf_core.h"
#include "target.h"

using namespace heapcore;

HEAPCORE_FUZZ_TARGET(elf_core, const fuzz::Bytes input) {
  Findings findings;
  const Result<CoreHeaders> headers = read_core_headers(input, "fuzz", findings);
  if (!headers) return;
  for (const Segment& segment : headers->segments) {
    if (segment.bytes == nullptr) continue;
    const auto offset = static_cast<std::uint64_t>(segment.bytes - input.data());
    fuzz::promise(offset <= input.size() && segment.size_bytes() <= input.size() - offset, "segments lie in the file");
  }
  const fuzz::ScratchFile file(input);
  OpenOptions options;
  options.sysroot = "/nonexistent";
  const Result<Snapshot> snapshot = open_core(file.path(), options, Progress::none());
  if (!snapshot) return;
  Addr end = 0;
  for (const Segment& segment : snapshot->space.segments()) {
    fuzz::promise(segment.start >= end && segment.end > segment.start, "segments are sorted and disjoint");
    end = segment.end;
  }
  end = 0;
  for (const Mapping& mapping : snapshot->mappings) {
    fuzz::promise(mapping.start >= end && mapping.end > mapping.start, "mappings are sorted and disjoint");
    end = mapping.end;
    fuzz::promise(mapping.not_dumped_bytes <= mapping.size_bytes(), "no more is missing than there is");
  }
  for (const Module& module : snapshot->modules) {
    static_cast<void>(module.symbol("main_arena", snapshot->space));
    static_cast<void>(module.symbol_at(module.range.start));
  }
}
