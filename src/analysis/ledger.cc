#include "analysis/ledger.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string_view>

#include "analysis/type_blocks.h"
#include "coreparse/residency.h"
#include "glibc_heap/census.h"
#include "pyobj/builtins_names.h"

namespace heapcore {
namespace {

// What the kernel calls its own (fs/proc/task_mmu.c, arch/x86). A library whose path is not known is in brackets too.
constexpr std::string_view kKernelMappings[] = {"[vdso]",    "[vvar]",    "[vvar_vclock]", "[vsyscall]",
                                                "[uprobes]", "[sigpage]", "[vectors]"};

bool is_kernels(const Mapping& mapping) {
  return std::find(std::begin(kKernelMappings), std::end(kKernelMappings), mapping.path) != std::end(kKernelMappings);
}

// "[libcrypto.so.3]", and not what the kernel says of memory without a file.
bool is_library(const Mapping& mapping) {
  const std::string& path = mapping.path;
  return path.starts_with('[') && path != "[heap]" && !path.starts_with("[stack") && !path.starts_with("[anon") &&
         !is_kernels(mapping);
}

// A range that an allocator answers for, as a whole, in the rows that the maker adds for it.
struct Claim {
  AddrRange range;
  enum class Owner : std::uint8_t { kObmalloc, kMallocRegion, kMmappedChunk } owner;
};

// What an allocator's walk counted of one kind.
struct Part {
  std::string category;
  std::string detail;
  std::uint64_t bytes;
};

class LedgerMaker {
 public:
  LedgerMaker(const Process& process, const Census* census, const ObmallocUse* obmalloc, Findings& findings)
      : process_(process), census_(census), obmalloc_(obmalloc), findings_(findings) {}

  Ledger run() {
    if (process_.snapshot.info.kind == TargetKind::kProcess) read_residency();
    collect_claims();
    add_mappings();
    add_obmalloc();
    add_malloc();
    add_mmapped();
    return sorted();
  }

 private:
  void add(std::string category, std::string detail, std::uint64_t bytes, std::uint64_t not_dumped_bytes = 0,
           std::vector<LedgerType> types = {}) {
    if (bytes == 0) return;
    LedgerRow& row = rows_[{std::move(category), std::move(detail)}];
    row.bytes += bytes;
    row.not_dumped_bytes += not_dumped_bytes;
    if (!types.empty()) row.types = std::move(types);
  }

  void read_residency() {
    Result<Residency> read = Residency::read(process_.snapshot);
    if (read) {
      residency_ = std::move(*read);
    } else {
      findings_.note("residency-unknown", Room::kAnalysis, 0, read.error().message);
    }
  }

  void add_resident(const std::string& what, const AddrRange& range) {
    if (!residency_ || range.size_bytes() == 0) return;
    ResidentRow& row = resident_[what];
    row.mapped_bytes += range.size_bytes();
    row.resident_bytes += residency_->resident_in(range);
    row.swapped_bytes += residency_->swapped_in(range);
  }

  void collect_claims() {
    if (obmalloc_ != nullptr) {
      for (const ArenaUse& use : obmalloc_->arenas) {
        claims_.push_back({{use.arena.address, use.arena.address + use.bytes}, Claim::Owner::kObmalloc});
      }
    }
    if (const Heap* heap = process_.heap()) {
      for (const Region& region : heap->regions) claims_.push_back({region.mapped(), Claim::Owner::kMallocRegion});
      for (const MmappedChunk& chunk : heap->mmapped) claims_.push_back({chunk.mapping, Claim::Owner::kMmappedChunk});
    }
    std::stable_sort(claims_.begin(), claims_.end(),
                     [](const Claim& a, const Claim& b) { return a.range.start < b.range.start; });
    Addr covered = 0;
    std::erase_if(claims_, [&](const Claim& claim) {
      const bool bad = claim.range.start < covered || mapped_in(claim.range) != claim.range.size_bytes();
      if (bad) {
        findings_.add({"ledger-claim-dropped", Room::kAnalysis, claim.range.start,
                       fmt::format("an allocator claims {} bytes here that are not all mapped, or are claimed twice",
                                   claim.range.size_bytes())});
      } else {
        covered = claim.range.end;
      }
      return bad;
    });
  }

  std::uint64_t mapped_in(const AddrRange& range) const {
    std::uint64_t bytes = 0;
    const std::vector<Mapping>& mappings = process_.snapshot.mappings;
    auto at = std::upper_bound(mappings.begin(), mappings.end(), range.start,
                               [](Addr a, const Mapping& mapping) { return a < mapping.end; });
    for (; at != mappings.end() && at->start < range.end; ++at) {
      bytes += std::min(at->end, range.end) - std::max(at->start, range.start);
    }
    return bytes;
  }

  std::uint64_t not_dumped_in(Addr start, Addr end) const {
    const std::span<const Segment> segments = process_.snapshot.space.segments();
    std::uint64_t bytes = 0;
    for (std::size_t i = process_.snapshot.space.lower_index(start); i < segments.size() && segments[i].start < end;
         ++i) {
      if (segments[i].state != ByteState::kNotDumped) continue;
      bytes += std::min(segments[i].end, end) - std::max(segments[i].start, start);
    }
    return bytes;
  }

  // Labels what no allocator claims of each mapping.
  void add_mappings() {
    auto claim = claims_.begin();
    for (const Mapping& mapping : process_.snapshot.mappings) {
      Addr at = mapping.start;
      while (at < mapping.end) {
        while (claim != claims_.end() && claim->range.end <= at) ++claim;
        const Addr next = claim == claims_.end() ? mapping.end : std::clamp(claim->range.start, at, mapping.end);
        if (next > at) label(mapping, at, next);
        if (next >= mapping.end) break;
        at = std::min(claim->range.end, mapping.end);
      }
    }
  }

  void label(const Mapping& mapping, Addr start, Addr end) {
    auto [category, detail] = label_of(mapping, start);
    add_resident(category, {start, end});
    add(std::move(category), std::move(detail), end - start, not_dumped_in(start, end));
  }

  // Category and detail of what no allocator claims.
  std::pair<std::string, std::string> label_of(const Mapping& mapping, Addr start) const {
    const Module* module = process_.snapshot.module_at(mapping.start);
    if (mapping.is_file() || is_library(mapping) || module != nullptr) {
      // Between a module's own mappings lies its .bss, which has no path.
      const std::string& path = mapping.path.empty() ? module->path : mapping.path;
      return {mapping.shared ? "shared file" : "file", path};
    }
    if (mapping.shared) return {"shared memory", mapping.path};
    if (const Thread* thread = stack_owner(mapping)) {
      return {"stack", thread->tid == process_.snapshot.info.pid ? "main thread" : "other threads"};
    }
    if (mapping.path == "[stack]") return {"stack", "main thread"};
    if (is_kernels(mapping)) return {"kernel", mapping.path};
    if (in_mimalloc_arena(mapping)) return {"mimalloc reserved", "not yet used part of its arenas"};
    if (in_thread_heap(start)) return {"malloc reserved", "not yet used part of thread arenas"};
    if (const Module* before = module_before(mapping)) return {"file", before->path};
    return {"anonymous", mapping.writable ? "" : "not writable"};
  }

  const Thread* stack_owner(const Mapping& mapping) const {
    for (const Thread& thread : process_.snapshot.threads) {
      if (thread.sp >= mapping.start && thread.sp < mapping.end) return &thread;
    }
    return nullptr;
  }

  // mimalloc takes segments from arenas of 1 GiB, of which the rest is mapped too.
  bool in_mimalloc_arena(const Mapping& mapping) const {
    const PyRuntime* runtime = process_.runtime();
    if (runtime == nullptr || !runtime->mimalloc) return false;
    const std::vector<Addr>& segments = runtime->mimalloc->segments;
    const auto first = std::lower_bound(segments.begin(), segments.end(), mapping.start);
    return first != segments.end() && *first < mapping.end;
  }

  // A thread arena's heap reserves HEAP_MAX_SIZE; only its beginning is in use.
  bool in_thread_heap(Addr address) const {
    constexpr std::uint64_t kHeapMaxBytes = 64 << 20;
    const Heap* heap = process_.heap();
    if (heap == nullptr) return false;
    for (const Arena& arena : heap->arenas) {
      if (arena.is_main) continue;
      for (const AddrRange& part : arena.heaps) {
        if (address >= part.end && align_down(address, kHeapMaxBytes) == align_down(part.start, kHeapMaxBytes))
          return true;
      }
    }
    return false;
  }

  // .bss: anonymous memory that begins where a module's own mappings end.
  const Module* module_before(const Mapping& mapping) const {
    if (!mapping.writable) return nullptr;
    for (const Module& module : process_.snapshot.modules) {
      if (module.range.end == mapping.start) return &module;
    }
    return nullptr;
  }

  void add_obmalloc() {
    if (obmalloc_ == nullptr) return;
    const std::uint64_t objects =
        census_ == nullptr ? 0 : std::min(census_->pools.objects.bytes, obmalloc_->bytes_in_use);
    const std::string name = obmalloc_->allocator;
    const std::string pools = name == "mimalloc" ? "pages" : "pools";
    const std::string place = fmt::format("in {} {}", name, pools);
    settle(Claim::Owner::kObmalloc, objects_by_group(place, &TypeBlockBytes::pools, objects),
           {{"python tables and buffers", place, obmalloc_->bytes_in_use - objects},
            {name + " free", "blocks in used " + pools, obmalloc_->bytes_free - obmalloc_->bytes_free_pools},
            {name + " free", "free " + pools, obmalloc_->bytes_free_pools},
            {name + " overhead", "", obmalloc_->bytes_overhead}});
  }

  void add_malloc() {
    const Heap* heap = process_.heap();
    if (heap == nullptr) return;
    const ArenaTotals all = heap->totals();
    const std::uint64_t used = all.of(ChunkState::kInUse).bytes;
    const std::uint64_t objects = census_ == nullptr ? 0 : std::min(census_->chunks.objects.bytes, used);
    settle(Claim::Owner::kMallocRegion, objects_by_group("in malloc chunks", &TypeBlockBytes::chunks, objects),
           {{"malloc in use", census_ == nullptr ? "" : "no Python object", used - objects},
            {"malloc free", "tcache", all.of(ChunkState::kTcache).bytes},
            {"malloc free", "fastbins", all.of(ChunkState::kFast).bytes},
            {"malloc free", "unsorted bin", all.of(ChunkState::kUnsorted).bytes},
            {"malloc free", "small bins", all.of(ChunkState::kSmall).bytes},
            {"malloc free", "large bins", all.of(ChunkState::kLarge).bytes},
            {"malloc free", "top", all.of(ChunkState::kTop).bytes},
            {"malloc overhead", "", all.overhead_bytes}});
  }

  void add_mmapped() {
    const Heap* heap = process_.heap();
    if (heap == nullptr) return;
    const std::uint64_t used = heap->mmapped_total().bytes;
    const std::uint64_t objects = census_ == nullptr ? 0 : std::min(census_->mmapped.objects.bytes, used);
    settle(Claim::Owner::kMmappedChunk, objects_by_group("in mmapped chunks", &TypeBlockBytes::mmapped, objects),
           {{"malloc in use", "mmapped chunks", used - objects}});
  }

  // The rows of the objects in one kind of memory; together they are `objects` bytes. What no object of a group has,
  // such as the room between 2.7's numbers, is a row without one.
  std::vector<LedgerRow> objects_by_group(const std::string& place, std::uint64_t TypeBlockBytes::*part,
                                          std::uint64_t objects) const {
    std::array<LedgerRow, kTypeGroups> groups;
    const std::size_t types = census_ == nullptr ? 0 : census_->blocks_by_type.size();
    for (TypeId id = 0; id < types; ++id) {
      const std::uint64_t bytes = census_->blocks_by_type[id].*part;
      if (bytes == 0) continue;
      const TypeInfo& type = census_->types->info(id);
      LedgerRow& row = groups[static_cast<std::size_t>(type_group(type))];
      row.bytes += bytes;
      row.types.push_back({type_text(type), bytes});
    }
    std::vector<LedgerRow> rows;
    std::uint64_t counted = 0;
    for (std::size_t i = 0; i < kTypeGroups; ++i) {
      LedgerRow& row = groups[i];
      if (row.bytes == 0) continue;
      row.category = "python objects";
      row.detail = fmt::format("{} {}", type_group_name(static_cast<TypeGroup>(i)), place);
      keep_largest(row.types);
      counted += row.bytes;
      rows.push_back(std::move(row));
    }
    rows.push_back({"python objects", place, objects - std::min(objects, counted), 0, {}});
    give_way(rows, objects);
    return rows;
  }

  static std::string type_text(const TypeInfo& type) {
    return type.module.empty() || is_builtins(type.module) ? type.name : type.module + "." + type.name;
  }

  static void keep_largest(std::vector<LedgerType>& types) {
    constexpr std::size_t kShown = 8;
    std::sort(types.begin(), types.end(), [](const LedgerType& a, const LedgerType& b) {
      return a.bytes != b.bytes ? a.bytes > b.bytes : a.type < b.type;
    });
    if (types.size() > kShown) types.resize(kShown);
  }

  // Takes what is more than `most` from the largest rows.
  static void give_way(std::vector<LedgerRow>& rows, std::uint64_t most) {
    std::uint64_t counted = 0;
    for (const LedgerRow& row : rows) counted += row.bytes;
    while (counted > most) {
      const auto largest = std::max_element(rows.begin(), rows.end(),
                                            [](const LedgerRow& a, const LedgerRow& b) { return a.bytes < b.bytes; });
      const std::uint64_t excess = std::min(counted - most, largest->bytes);
      largest->bytes -= excess;
      largest->types.clear();
      counted -= excess;
    }
  }

  // Adds an allocator's rows so that they make up exactly what it claims. In a sound target they do; in a damaged one
  // the walks counted less (what is missing is labelled lost) or, a claim having been dropped, more (the largest rows
  // give way).
  void settle(Claim::Owner owner, std::vector<LedgerRow> parts, const std::vector<Part>& others) {
    for (const Part& other : others) parts.push_back({other.category, other.detail, other.bytes, 0, {}});
    std::uint64_t claimed = 0;
    std::uint64_t not_dumped = 0;
    for (const Claim& claim : claims_) {
      if (claim.owner != owner) continue;
      claimed += claim.range.size_bytes();
      add_resident(owner == Claim::Owner::kObmalloc ? obmalloc_->allocator : "malloc", claim.range);
      not_dumped += not_dumped_in(claim.range.start, claim.range.end);
    }
    give_way(parts, claimed);
    std::uint64_t counted = 0;
    for (LedgerRow& part : parts) {
      counted += part.bytes;
      add(part.category, part.detail, part.bytes, 0, std::move(part.types));
    }
    add(owner == Claim::Owner::kObmalloc ? std::string(obmalloc_->allocator) + " lost" : "malloc lost", "",
        claimed - counted, std::min(not_dumped, claimed - counted));
  }

  Ledger sorted() {
    Ledger ledger;
    std::map<std::string, std::uint64_t> by_category;
    for (auto& [key, row] : rows_) {
      row.category = key.first;
      row.detail = key.second;
      by_category[row.category] += row.bytes;
      ledger.mapped_bytes += row.bytes;
      ledger.rows.push_back(row);
    }
    std::sort(ledger.rows.begin(), ledger.rows.end(), [&](const LedgerRow& a, const LedgerRow& b) {
      const std::uint64_t total_a = by_category[a.category];
      const std::uint64_t total_b = by_category[b.category];
      if (total_a != total_b) return total_a > total_b;
      if (a.category != b.category) return a.category < b.category;
      if (a.bytes != b.bytes) return a.bytes > b.bytes;
      return a.detail < b.detail;
    });
    for (auto& [what, row] : resident_) {
      row.what = what;
      ledger.resident.push_back(row);
    }
    std::stable_sort(ledger.resident.begin(), ledger.resident.end(),
                     [](const ResidentRow& a, const ResidentRow& b) { return a.resident_bytes > b.resident_bytes; });
    if (residency_) ledger.rss_bytes = residency_->rss_bytes();
    return ledger;
  }

  const Process& process_;
  const Census* census_;
  const ObmallocUse* obmalloc_;
  Findings& findings_;
  std::vector<Claim> claims_;  // sorted, disjoint, wholly mapped
  std::map<std::pair<std::string, std::string>, LedgerRow> rows_;
  std::optional<Residency> residency_;  // of a live process
  std::map<std::string, ResidentRow> resident_;
};

}  // namespace

Ledger make_ledger(const Process& process, const Census* census, const ObmallocUse* obmalloc, Findings& findings) {
  return LedgerMaker(process, census, obmalloc, findings).run();
}

}  // namespace heapcore
