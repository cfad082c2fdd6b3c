#include "malloc_commands.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>

#include "analysis/holders.h"
#include "analysis/native_blocks.h"
#include "analysis/verify.h"
#include "glibc_heap/census.h"
#include "glibc_heap/chunks.h"
#include "report/layout_answers.h"
#include "report/malloc_answers.h"
#include "report/native_answers.h"

namespace heapcore {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& value) {
  // A name in the target may be no UTF-8; JSON must be.
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Answer no_malloc(const Process& process) {
  Json json = malloc_json(Heap());
  json["located_by"] = nullptr;
  json["why_not"] = process.malloc.why_not;
  return {json, fmt::format("no glibc malloc was found: {}\n", process.malloc.why_not)};
}

Answer places(const Options& options, const Process& process) {
  std::vector<Place> found;
  for (const std::string& address : options.addresses) {
    found.push_back(place_of(process.snapshot, *process.heap(), parse_address(address).value_or(0)));
  }
  return {places_json(*process.heap(), found), places_text(*process.heap(), found)};
}

Answer unowned(const Options& options, Process& process, Progress& progress, Timings& timings, const TextStyle& style) {
  MallocOwners owners;
  NativeBlocks native;
  if (process.runtime() == nullptr)
    return {unowned_json(owners, native), "whose chunks are is told by the objects of a Python, and there is none\n"};
  const Holders holders = find_holders(process, progress, process.findings, timings);
  timings.time("owners", [&] {
    owners = find_malloc_owners(process, holders);
    NativeOptions how;
    how.limit = options.limit.value_or(how.limit);
    how.values = options.values;
    native = find_native_blocks(process, holders.graph, owners, how);
  });
  return {unowned_json(owners, native), unowned_text(owners, native, style)};
}

// Standard output in blocks; after a failure nothing more is written.
class Output {
 public:
  std::string& buffer() { return buffer_; }
  bool good() const { return good_; }
  void flush_if_full() {
    if (buffer_.size() >= kBlockBytes) flush();
  }
  void flush() {
    good_ =
        good_ && std::fwrite(buffer_.data(), 1, buffer_.size(), stdout) == buffer_.size() && std::fflush(stdout) == 0;
    buffer_.clear();
  }

 private:
  static constexpr std::size_t kBlockBytes = std::size_t{1} << 16;

  std::string buffer_;
  bool good_ = true;
};

const Arena* find_arena(const Heap& heap, const std::string& name) {
  for (const Arena& arena : heap.arenas) {
    if (name == "main" ? arena.is_main : arena.address == parse_address(name)) return &arena;
  }
  return nullptr;
}

template <typename Visitor>
void each_chunk(Process& process, const Arena& arena, Visitor&& visit) {
  const Heap& heap = *process.heap();
  Reader reader(process.snapshot.space);
  for (const Region& region : heap.regions) {
    if (&heap.arenas[region.arena] == &arena) for_each_chunk(heap, reader, region, process.findings, visit);
  }
}

void stream_text(Process& process, const Arena& arena, Output& out) {
  out.buffer() += chunk_text_header();
  each_chunk(process, arena, [&](const Chunk& chunk) {
    if (!out.good()) return;
    append_chunk_text(chunk, out.buffer());
    out.flush_if_full();
  });
}

// One document. What the walk finds is known only at its end, so "warnings" and "notes" come last here.
void stream_json(const Options& options, Process& process, const Arena& arena, Output& out) {
  out.buffer() += "{\n";
  const Json head = document_head(options.command, process);
  for (const auto& [key, value] : head.items()) {
    if (key != "warnings" && key != "notes") out.buffer() += fmt::format("  \"{}\": {},\n", key, dump(value));
  }
  out.buffer() += fmt::format("  \"arena\": \"{:#x}\",\n  \"chunks\": [", arena.address);
  CountBytes total;
  each_chunk(process, arena, [&](const Chunk& chunk) {
    if (!out.good()) return;
    out.buffer() += total.count == 0 ? "\n    " : ",\n    ";
    append_chunk_json(chunk, out.buffer());
    total.add(chunk.size_bytes);
    out.flush_if_full();
  });
  process.findings.sort();
  const Json tail = document_head(options.command, process);
  out.buffer() += fmt::format("\n  ],\n  \"total\": {{\"count\": {}, \"bytes\": {}}},\n", total.count, total.bytes);
  out.buffer() +=
      fmt::format("  \"warnings\": {},\n  \"notes\": {}\n}}\n", dump(tail["warnings"]), dump(tail["notes"]));
}

}  // namespace

Answer answer_malloc(const Options& options, Process& process, Progress& progress, Timings& timings,
                     const TextStyle& style) {
  if (process.heap() == nullptr) return no_malloc(process);
  Heap& heap = *process.heap();
  if (!options.addresses.empty()) return timings.time("walk", [&] { return places(options, process); });
  if (options.bins || options.sizes) {
    const std::vector<SizeClass> classes =
        timings.time("walk", [&] { return size_classes(process.snapshot, heap, process.findings); });
    if (options.bins) return {bins_json(heap, classes), bins_text(heap, classes)};
    const std::vector<SizeClass> sizes = sizes_in_use(heap, classes);
    return {sizes_json(sizes), sizes_text(sizes)};
  }
  if (options.unowned) return unowned(options, process, progress, timings, style);
  timings.time("walk", [&] {
    count_chunks(process.snapshot, heap, process.findings);
    check_bins(process.snapshot, heap, process.findings);
  });
  return {malloc_json(heap), malloc_text(heap, style)};
}

Result<ExitStatus> stream_chunks(const Options& options, Process& process, Timings& timings) {
  const Arena* arena = process.heap() == nullptr ? nullptr : find_arena(*process.heap(), options.chunks);
  if (arena == nullptr) {
    const std::string why = process.heap() == nullptr ? "no glibc malloc was found: " + process.malloc.why_not
                                                      : fmt::format("there is no arena {}", options.chunks);
    return Error{ErrorCode::kUsage, why, "heapcore malloc lists the arenas"};
  }
  Output out;
  timings.time("walk", [&] {
    if (options.json) {
      stream_json(options, process, *arena, out);
    } else {
      stream_text(process, *arena, out);
    }
    out.flush();
  });
  process.findings.sort();
  if (!options.json) fmt::print(stderr, "{}", warnings_text(process.findings));
  if (!out.good()) return ExitStatus::kUnreadable;
  return process.findings.incomplete() ? ExitStatus::kIncomplete : ExitStatus::kAnswered;
}

Answer answer_verify(const Options& options, Process& process, Progress& progress, Timings& timings,
                     const TextStyle& style) {
  const Verification verification = verify_process(process, progress, timings);
  process.findings.sort();
  Answer answer = {verify_json(verification, process), verify_text(verification, process, style)};
  if (options.layouts) {
    const std::vector<LayoutRow> rows = layout_rows(process);
    answer.json["layouts"] = layouts_json(rows);
    answer.text += layouts_text(rows, style);
  }
  return answer;
}

}  // namespace heapcore
