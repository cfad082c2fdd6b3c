// write_core(): a snapshot goes into a file.
#include <algorithm>
#include <cstring>
#include <vector>

#include "coreparse/capture.h"
#include "coreparse/core_head.h"
#include "coreparse/core_sink.h"
#include "coreparse/stored_files.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kBlockBytes = std::uint64_t{1} << 20;

PartState state_of(const Segment& segment, bool store_file) {
  if (segment.state == ByteState::kZeroFill) return PartState::kZero;
  const bool stored = segment.state == ByteState::kPresent && (store_file || !segment.from_file);
  return stored ? PartState::kStored : PartState::kAbsent;
}

std::vector<CorePart> parts_of(const Snapshot& snapshot) {
  std::vector<CorePart> parts;
  const std::vector<bool> stored_files = files_to_store(snapshot.mappings);
  const std::span<const Segment> segments = snapshot.space.segments();
  for (std::size_t i = 0; i < snapshot.mappings.size(); ++i) {
    const Mapping& mapping = snapshot.mappings[i];
    const std::size_t first_part = parts.size();
    for (std::size_t s = snapshot.space.lower_index(mapping.start); s < segments.size(); ++s) {
      const AddrRange range{std::max(segments[s].start, mapping.start), std::min(segments[s].end, mapping.end)};
      if (range.start >= mapping.end) break;
      const PartState state = state_of(segments[s], stored_files[i]);
      if (parts.size() > first_part && parts.back().state == state && parts.back().range.end == range.start) {
        parts.back().range.end = range.end;
      } else {
        parts.push_back({range, state, false, segment_flags(mapping)});
      }
    }
  }
  return parts;
}

// Zeroes what of `blanked` lies in the block that holds the bytes of `range`.
void blank(AddrRange range, std::span<const AddrRange> blanked, std::byte* block) {
  auto next = std::upper_bound(blanked.begin(), blanked.end(), range.start,
                               [](Addr address, const AddrRange& b) { return address < b.end; });
  for (; next != blanked.end() && next->start < range.end; ++next) {
    const Addr start = std::max(next->start, range.start);
    std::memset(block + (start - range.start), 0, std::min(next->end, range.end) - start);
  }
}

}  // namespace

Result<CaptureSummary> write_core(const Snapshot& snapshot, std::span<const AddrRange> blanked, int descriptor,
                                  const CaptureOptions& options, Progress& progress) {
  Result<std::unique_ptr<CoreSink>> opened =
      make_core_sink(descriptor, {options.name, options.compress, options.most_file_bytes});
  if (!opened) return opened.error();
  CoreSink& sink = **opened;
  const std::vector<CorePart> parts = parts_of(snapshot);
  const CoreHead head = make_core_head(snapshot, parts);
  Status status = sink.write(std::as_bytes(std::span(head.bytes)));
  CaptureSummary summary;
  Reader reader(snapshot.space);
  std::vector<std::byte> block(kBlockBytes);
  progress.begin("write", head.file_bytes);
  for (const CorePart& part : parts) {
    if (part.state != PartState::kStored) continue;
    for (Addr at = part.range.start; status && at < part.range.end;) {
      const std::span<const std::byte> bytes = reader.span_to_end(at);
      const std::uint64_t n = std::min({bytes.size(), kBlockBytes, part.range.end - at});
      if (n == 0) break;
      std::memcpy(block.data(), bytes.data(), n);
      blank({at, at + n}, blanked, block.data());
      status = sink.write(std::span(block).first(n));
      progress.advance(n);
      summary.memory_bytes += n;
      at += n;
    }
  }
  const std::string tail = make_core_tail({});
  if (status) status = sink.write(std::as_bytes(std::span(tail)));
  if (status) status = sink.finish();
  progress.end();
  if (!status) return status.error();
  summary.file_bytes = sink.stored_bytes();
  summary.threads = snapshot.threads.size();
  summary.info = snapshot.info;
  return summary;
}

}  // namespace heapcore
