// Any bytes as a core that may be compressed: zstd, lz4, xz, gzip.
#include "coreparse/core_file.h"
#include "target.h"

using namespace heapcore;

HEAPCORE_FUZZ_TARGET(stream, const fuzz::Bytes input) {
  const fuzz::ScratchFile file(input);
  Findings findings;
  const Result<Image> image = read_core_file(file.path(), findings, Progress::none());
  if (!image) {
    fuzz::promise(!image.error().message.empty(), "a refusal says why");
    return;
  }
  fuzz::promise(!image->bytes().empty(), "an image has bytes");
  std::uint64_t sum = 0;
  for (const std::byte byte : image->bytes()) sum += static_cast<std::uint64_t>(byte);
  fuzz::promise(sum <= 255 * image->bytes().size(), "every byte can be read");
}
