// main_arena and mp_: by symbol, by structure, by relocation, by code.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "coreparse/code.h"
#include "glibc_heap/parts.h"

namespace heapcore {
namespace {

using StateLayout = decltype(GlibcLayout::malloc_state);
using ParLayout = decltype(GlibcLayout::malloc_par);

constexpr unsigned kMaxArenas = 65536;
constexpr std::uint32_t kTrimInstructions = 64;  // main_arena's address is taken among malloc_trim's first few

enum class Evidence : std::uint8_t { kNone, kUnused, kPartly, kWhole };

struct Candidate {
  Addr address = 0;
  StateLayout layout;
  Evidence evidence = Evidence::kNone;
  unsigned neighbours =
      0;  // arenas that follow it in the ring: of two shapes at one place, only the right one leads on
};

// The different shapes of one structure, the likeliest first.
template <typename Layout>
std::vector<Layout> shapes(Layout GlibcLayout::*member, const Target& target) {
  std::vector<Layout> out;
  for (const GlibcLayout& layout : target.layouts) {
    if (std::find(out.begin(), out.end(), layout.*member) == out.end()) out.push_back(layout.*member);
  }
  return out;
}

// The last bin exists and is never used, so once malloc has run its two links always name itself.
bool last_bin_empty(Reader& reader, const StateLayout& layout, Addr arena) {
  const Addr head = bin_head(layout, arena, kBins);
  std::array<std::uint64_t, 2> links{};
  return reader.try_load(head + 16, links) && links[0] == head && links[1] == head;
}

unsigned sound_bins(Reader& reader, const StateLayout& layout, Addr arena) {
  unsigned sound = 0;
  for (unsigned bin = 1; bin <= kBins; ++bin) {
    const Addr head = bin_head(layout, arena, bin);
    std::array<std::uint64_t, 2> links{};
    if (!reader.try_load(head + 16, links)) return 0;
    const auto [fd, bk] = links;
    Addr back = 0;
    Addr forward = 0;
    if (reader.try_load(fd + 24, back) && reader.try_load(bk + 16, forward) && back == head && forward == head) ++sound;
  }
  return sound;
}

// Whether following `next` from arena leads back to it through arenas only; counts them.
bool ring_closes(Reader& reader, const StateLayout& layout, Addr arena, unsigned& neighbours) {
  Addr at = arena;
  for (neighbours = 0; neighbours < kMaxArenas; ++neighbours) {
    Addr next = 0;
    if (!reader.try_load(at + layout.next.offset, next)) return false;
    if (next == arena) return true;
    if (!last_bin_empty(reader, layout, next)) return false;
    at = next;
  }
  return false;
}

bool top_sound(Reader& reader, const StateLayout& layout, Addr arena) {
  Addr top = 0;
  std::uint64_t word = 0;
  if (!reader.try_load(arena + layout.top.offset, top) || top == 0) return false;
  if (top == bin_head(layout, arena, 1)) return true;  // the initial top, before memory was asked for
  return is_aligned(top, kChunkAlignment) && reader.try_load(top + 8, word) && (word & ~kSizeFlags) != 0;
}

// A main_arena as the linker left it: all zero but `next`, which names itself, and `attached_threads`, which is 1.
bool never_used(Reader& reader, const StateLayout& layout, Addr arena) {
  Addr next = 0;
  if (!reader.try_load(arena + layout.next.offset, next) || next != arena) return false;
  for (std::uint32_t offset = 0; offset + 8 <= layout.size_bytes; offset += 8) {
    std::uint64_t word = 0;
    if (!reader.try_load(arena + offset, word)) return false;
    if (offset == layout.next.offset) continue;
    if (layout.attached_threads.present() && offset == layout.attached_threads.offset && word == 1) continue;
    if (word != 0) return false;
  }
  return true;
}

Candidate judge(Reader& reader, const StateLayout& layout, Addr arena) {
  Candidate seen{arena, layout, Evidence::kNone, 0};
  if (!last_bin_empty(reader, layout, arena)) {
    if (never_used(reader, layout, arena)) seen.evidence = Evidence::kUnused;
    return seen;
  }
  const bool top = top_sound(reader, layout, arena);
  const bool ring = ring_closes(reader, layout, arena, seen.neighbours);
  const unsigned bins = sound_bins(reader, layout, arena);
  if (top && ring && bins == kBins) {
    seen.evidence = Evidence::kWhole;
  } else if ((ring || top) && bins >= kBins / 2) {  // damaged: most of it must still be there
    seen.evidence = Evidence::kPartly;
  }
  return seen;
}

bool better(const Candidate& a, const Candidate& b) {
  return a.evidence != b.evidence ? a.evidence > b.evidence : a.neighbours > b.neighbours;
}

// The best reading of an address that a symbol or code gave.
Candidate judge_address(Target& target, Addr address) {
  Candidate best;
  for (const StateLayout& layout : shapes(&GlibcLayout::malloc_state, target)) {
    const Candidate seen = judge(target.reader, layout, address);
    if (seen.evidence != Evidence::kNone && better(seen, best)) best = seen;
  }
  return best;
}

// Calls visit(address, value) for every aligned word that is there.
template <typename Visitor>
void for_each_word(Reader& reader, const std::vector<AddrRange>& ranges, Visitor&& visit) {
  for (const AddrRange& range : ranges) {
    for (Addr start = align_up(range.start, 8); start < range.end;) {
      start = align_up(std::min(reader.space().next_present(start), range.end), 8);
      const std::span<const std::byte> bytes = reader.span_to_end(start);
      const std::uint64_t n = align_down(std::min<std::uint64_t>(bytes.size(), range.end - start), 8);
      for (std::uint64_t offset = 0; offset < n; offset += 8) {
        std::uint64_t value = 0;
        std::memcpy(&value, bytes.data() + offset, sizeof value);
        visit(start + offset, value);
      }
      start += std::max<std::uint64_t>(n, 8);
    }
  }
}

// The best places, all of one quality. Words that point a little before themselves mark them: the empty last bin of an
// arena in use, the `next` of one that was never used.
std::vector<Candidate> by_structure(Target& target) {
  std::vector<Candidate> found;
  const std::vector<StateLayout> layouts = shapes(&GlibcLayout::malloc_state, target);
  const auto consider = [&](const Candidate& seen) {
    if (seen.evidence == Evidence::kNone) return;
    if (!found.empty() && better(found.front(), seen)) return;
    if (!found.empty() && better(seen, found.front())) found.clear();
    found.push_back(seen);
  };
  Reader probe(target.reader.space());
  for_each_word(target.reader, target.writable, [&](Addr address, std::uint64_t value) {
    const std::uint64_t back = address - value;
    if (back > sizeof(std::uint64_t) * 1024) return;
    for (const StateLayout& layout : layouts) {
      if (back == kChunkHeaderBytes) consider(judge(probe, layout, value - bin_head(layout, 0, kBins)));
      if (back == layout.next.offset) consider(judge(probe, layout, value));
    }
  });
  return found;
}

const Candidate& preferred(const std::vector<Candidate>& found, const Target& target) {
  for (const Candidate& candidate : found) {
    if (candidate.layout == target.layouts.front().malloc_state) return candidate;
  }
  return found.front();
}

// Whether the library's file holds there what the linker leaves of a main_arena: zeros but for `next`, and one thread
// attached.
bool pristine(const Module& module, const StateLayout& layout, Addr arena) {
  const std::span<const std::byte> bytes = module.initial_bytes(arena, layout.size_bytes);
  if (bytes.size() < layout.size_bytes) return false;
  for (std::uint32_t offset = 0; offset + 8 <= layout.size_bytes; offset += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + offset, sizeof word);
    const bool attached = layout.attached_threads.present() && offset == layout.attached_threads.offset;
    if (offset != layout.next.offset && word != (attached ? 1U : 0U)) return false;
  }
  return true;
}

// The one place that a relocation makes point `next` to its own structure, the rest of which is pristine in the file.
std::optional<Addr> by_relocation(Target& target) {
  if (target.module == nullptr) return std::nullopt;
  const std::vector<StateLayout> layouts = shapes(&GlibcLayout::malloc_state, target);
  std::optional<Addr> found;
  for (const RelativeRelocation& relocation : target.module->relative_relocations()) {
    const bool fits = std::any_of(layouts.begin(), layouts.end(), [&](const StateLayout& layout) {
      return relocation.place - relocation.value == layout.next.offset && target.in_writable(relocation.value) &&
             pristine(*target.module, layout, relocation.value);
    });
    if (!fits) continue;
    if (found && *found != relocation.value) return std::nullopt;  // two of them prove nothing
    found = relocation.value;
  }
  return found;
}

std::optional<Addr> by_code(Target& target) {
  if (target.module == nullptr) return std::nullopt;
  const std::optional<Symbol> trim = target.module->symbol("malloc_trim", target.snapshot.space);
  if (!trim) return std::nullopt;
  for (const CodeRef& reference : code_references(target.reader, trim->address, kTrimInstructions)) {
    if (reference.kind == CodeRefKind::kAddress && target.in_writable(reference.target)) return reference.target;
  }
  return std::nullopt;
}

// How many of malloc_par's values are what they are by default; -1 if one cannot be.
int score_par(Reader& reader, const ParLayout& layout, Addr address) {
  // Asked of every word there is, where damage hides which memory is libc's: so the words are read at once.
  const std::span<const std::byte> bytes = reader.span(address, layout.size_bytes);
  const auto get = [&](Field field) -> std::optional<std::uint64_t> {
    if (bytes.empty() || field.width_bytes > sizeof(std::uint64_t)) return load_field(reader, address, field);
    if (!field.present()) return std::nullopt;
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data() + field.offset, field.width_bytes);
    return value;
  };
  if (!get(layout.sbrk_base) || !get(layout.trim_threshold)) return -1;
  const std::uint64_t mmaps = get(layout.n_mmaps).value_or(0);
  const std::uint64_t mmaps_peak = get(layout.max_n_mmaps).value_or(0);
  const std::uint64_t mapped = get(layout.mmapped_mem).value_or(0);
  const std::uint64_t mapped_peak = get(layout.max_mmapped_mem).value_or(0);
  if (mmaps > mmaps_peak || mmaps_peak >> 31 != 0 || mapped > mapped_peak) return -1;
  if ((mmaps_peak == 0) != (mapped_peak == 0) || mapped >> 47 != 0 || mapped < mmaps * 4096) return -1;
  for (const Field field : {layout.thp_pagesize, layout.hp_pagesize}) {
    const std::uint64_t page = get(field).value_or(0);
    if (page != 0 && !std::has_single_bit(page)) return -1;
  }
  if (get(layout.tcache_count).value_or(0) > 0xffff || get(layout.arena_max).value_or(0) >> 32 != 0) return -1;
  const auto is = [&](Field field, std::uint64_t value) { return field.present() && get(field) == value ? 1 : 0; };
  return is(layout.top_pad, 0x20000) + is(layout.n_mmaps_max, 65536) + is(layout.arena_test, 8) +
         is(layout.tcache_bins, 64) + is(layout.tcache_small_bins, 64) + is(layout.tcache_count, 7) +
         is(layout.tcache_count, 16) + is(layout.tcache_max_bytes, 1032) + is(layout.tcache_max_bytes, 1041);
}

struct ParCandidate {
  Addr address = 0;
  ParLayout layout;
  int score = -1;
};

// Every place of libc's data where malloc_par may lie. With `sbrk_base`, only where it says just that.
ParCandidate par_by_structure(Target& target, std::optional<Addr> sbrk_base) {
  ParCandidate best;
  best.score = sbrk_base ? 1 : 2;  // to be exceeded; the oldest have three values that are rarely changed
  const std::vector<ParLayout> layouts = shapes(&GlibcLayout::malloc_par, target);
  Reader probe(target.reader.space());
  for_each_word(target.reader, target.writable, [&](Addr address, std::uint64_t value) {
    if (sbrk_base && value != *sbrk_base) return;
    for (const ParLayout& layout : layouts) {
      const Addr start = address - layout.sbrk_base.offset;
      const int score = score_par(probe, layout, start);
      if (score > best.score) best = {start, layout, score};
    }
  });
  return best;
}

ParCandidate par_by_address(Target& target, Addr address) {
  ParCandidate best;
  for (const ParLayout& layout : shapes(&GlibcLayout::malloc_par, target)) {
    const int score = score_par(target.reader, layout, address);
    if (score > best.score) best = {address, layout, score};
  }
  return best;
}

}  // namespace

bool locate_main_arena(Target& target, Heap& heap) {
  struct Method {
    const char* name;
    Candidate found;
  };
  std::vector<Method> methods;
  if (target.module != nullptr) {
    if (const auto symbol = target.module->symbol("main_arena", target.snapshot.space)) {
      methods.push_back({"symbol", judge_address(target, symbol->address)});
    }
  }
  const std::vector<Candidate> structural = by_structure(target);
  // Of several readings equally good (a damaged ring says nothing of where the structure begins) the likeliest layout
  // decides.
  if (!structural.empty()) methods.push_back({"structure", preferred(structural, target)});
  if (const auto address = by_relocation(target)) methods.push_back({"relocation", judge_address(target, *address)});
  if (const auto address = by_code(target)) methods.push_back({"code", judge_address(target, *address)});

  const Method* best = nullptr;
  for (const Method& method : methods) {
    if (method.found.evidence == Evidence::kNone) continue;
    if (best == nullptr || method.found.evidence > best->found.evidence) best = &method;
  }
  if (best == nullptr) return false;
  heap.located_by = best->name;
  heap.layout.malloc_state = best->found.layout;
  heap.arenas.assign(1, Arena{});
  heap.arenas[0].address = best->found.address;
  heap.arenas[0].is_main = true;
  for (const Method& method : methods) {
    if (&method == best) continue;
    const bool same = method.found.address == best->found.address;
    const bool listed = std::any_of(structural.begin(), structural.end(),
                                    [&](const Candidate& c) { return c.address == best->found.address; });
    if (same || (std::string_view(method.name) == "structure" && listed)) {
      heap.agreed.emplace_back(method.name);
    } else {
      target.findings.note("main-arena-disagree", Room::kGlibcHeap, best->found.address,
                           fmt::format("found by {}; {} leads elsewhere", best->name, method.name));
    }
  }
  if (best->found.evidence == Evidence::kPartly) {
    target.damage("main-arena-damaged", best->found.address, "main_arena's bins, top or ring of arenas are not whole");
  }
  return true;
}

void locate_malloc_par(Target& target, Heap& heap) {
  const Addr arena = heap.arenas[0].address;
  const StateLayout& state = heap.layout.malloc_state;
  const Addr top = field_or_zero(target.reader, arena, state.top);
  const std::uint64_t system = field_or_zero(target.reader, arena, state.system_mem);
  const std::uint64_t top_bytes = target.reader.load<std::uint64_t>(top + 8).value_or(0) & ~kSizeFlags;
  // A main arena of one piece ends where top ends and began system_mem before.
  std::optional<Addr> start;
  if (system == 0) start = 0;
  if (system != 0 && top != 0) start = top + top_bytes - system;

  ParCandidate found = par_by_structure(target, start);
  if (found.address == 0) found = par_by_structure(target, std::nullopt);
  if (target.module != nullptr) {
    if (const auto symbol = target.module->symbol("mp_", target.snapshot.space)) {
      if (found.address != 0 && found.address != symbol->address) {
        target.findings.note("malloc-par-disagree", Room::kGlibcHeap, symbol->address,
                             fmt::format("the symbol mp_ names it; structure leads to {:#x}", found.address));
      }
      if (found.address != symbol->address) found = par_by_address(target, symbol->address);
    }
  }
  if (found.address == 0 || found.score < 0) {
    target.findings.note("malloc-par-not-found", Room::kGlibcHeap, arena,
                         "mp_ was not found; mmapped chunks cannot be compared with malloc's own count");
    return;
  }
  heap.layout.malloc_par = found.layout;
  const auto get = [&](Field field) { return field_or_zero(target.reader, found.address, field); };
  const ParLayout& layout = found.layout;
  MallocPar& par = heap.par;
  par.address = found.address;
  par.trim_threshold_bytes = get(layout.trim_threshold);
  par.top_pad_bytes = get(layout.top_pad);
  par.mmap_threshold_bytes = get(layout.mmap_threshold);
  par.arena_test = get(layout.arena_test);
  par.arena_max = get(layout.arena_max);
  par.thp_page_bytes = get(layout.thp_pagesize);
  par.huge_page_bytes = get(layout.hp_pagesize);
  par.n_mmaps = get(layout.n_mmaps);
  par.n_mmaps_max = get(layout.n_mmaps_max);
  par.max_n_mmaps = get(layout.max_n_mmaps);
  par.mmapped_bytes = get(layout.mmapped_mem);
  par.max_mmapped_bytes = get(layout.max_mmapped_mem);
  par.tcache_count = get(layout.tcache_count);
  par.sbrk_base = get(layout.sbrk_base);
}

}  // namespace heapcore
