#include "glibc_heap/locate.h"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "glibc_heap/parts.h"

namespace heapcore {

std::optional<std::uint64_t> load_field(Reader& reader, Addr structure, Field field) {
  const std::optional<Addr> address = checked_add(structure, field.offset);
  std::uint64_t value = 0;
  if (!address || field.width_bytes == 0 || field.width_bytes > sizeof value) return std::nullopt;
  // Little endian: the low bytes come first.
  if (!reader.read(*address, {reinterpret_cast<std::byte*>(&value), field.width_bytes})) return std::nullopt;
  return value;
}

std::uint64_t field_or_zero(Reader& reader, Addr structure, Field field) {
  return load_field(reader, structure, field).value_or(0);
}

bool Target::in_writable(Addr address) const {
  return std::any_of(writable.begin(), writable.end(), [&](const AddrRange& range) { return range.contains(address); });
}

namespace {

struct Replacement {
  std::string_view module_prefix;
  std::string_view name;
};
constexpr std::array kReplacements{
    Replacement{"libjemalloc", "jemalloc"}, Replacement{"libtcmalloc", "tcmalloc"},
    Replacement{"libmimalloc", "mimalloc"}, Replacement{"libsnmalloc", "snmalloc"},
    Replacement{"ld-musl", "musl"},         Replacement{"libc.musl", "musl"},
};

const Module* find_libc(const Snapshot& snapshot) {
  for (const std::string_view prefix : {"libc.so", "libc-2."}) {
    if (const Module* module = snapshot.module_named(prefix)) return module;
  }
  return nullptr;
}

// Without any module: all writable memory small enough to be some library's data.
std::vector<AddrRange> small_writable(const Snapshot& snapshot) {
  constexpr std::uint64_t kLargestDataBytes = std::uint64_t{1} << 20;
  std::vector<AddrRange> out;
  for (const Mapping& mapping : snapshot.mappings) {
    if (!mapping.writable || mapping.shared || mapping.size_bytes() > kLargestDataBytes) continue;
    out.push_back({mapping.start, mapping.end});
  }
  return out;
}

// "GNU C Library (...) stable release version 2.36." in the read-only data of libc.
std::string banner_version(const Snapshot& snapshot, const Module& module) {
  Reader reader(snapshot.space);
  for (const Mapping& mapping : snapshot.mappings) {
    if (mapping.path != module.path || mapping.writable) continue;
    Addr at = mapping.start;
    while (at < mapping.end) {
      const std::span<const std::byte> bytes = reader.span_to_end(at);
      const std::uint64_t n = std::min<std::uint64_t>(bytes.size(), mapping.end - at);
      const std::string_view text(reinterpret_cast<const char*>(bytes.data()), n);
      for (std::size_t banner = text.find("GNU C Library "); banner != text.npos;
           banner = text.find("GNU C Library ", banner + 1)) {
        constexpr std::string_view kBefore = "release version ";
        const std::string_view line = text.substr(banner, 200);
        const std::size_t version = line.find(kBefore);
        if (version == line.npos) continue;
        const std::string_view rest = line.substr(version + kBefore.size());
        const std::size_t end = rest.find_first_not_of("0123456789.");
        std::string_view number = rest.substr(0, end);
        while (number.ends_with('.')) number.remove_suffix(1);
        return std::string(number);
      }
      at = n != 0 ? at + n : snapshot.space.next_present(at);
    }
  }
  // "libc-2.31.so", until 2.33.
  const std::string_view name = module.name();
  if (!name.starts_with("libc-2.") || !name.ends_with(".so")) return {};
  return std::string(name.substr(5, name.size() - 5 - 3));
}

// 2.42 renamed tcache_bins and 2.44 dropped the last field; neither moved anything, so the target does not tell them
// apart.
bool same_places(const decltype(GlibcLayout::malloc_par)& a, const decltype(GlibcLayout::malloc_par)& b) {
  return a.n_mmaps == b.n_mmaps && a.mmapped_mem == b.mmapped_mem && a.sbrk_base == b.sbrk_base &&
         a.tcache_max_bytes == b.tcache_max_bytes && a.tcache_count == b.tcache_count;
}

bool same_shapes(const GlibcLayout& table, const Heap& heap) {
  const GlibcLayout& seen = heap.layout;
  if (table.malloc_state != seen.malloc_state) return false;
  if (seen.malloc_par.size_bytes != 0 && !same_places(table.malloc_par, seen.malloc_par)) return false;
  if (heap.arenas.size() > 1 && table._heap_info != seen._heap_info) return false;
  return heap.tcaches.empty() || table.tcache_perthread_struct == seen.tcache_perthread_struct;
}

// The debug file of the exact build, if it is at hand.
void read_debug_file(Target& target) {
  if (target.module == nullptr || target.module->debug_file.empty()) return;
  target.debug_file_layout = layout_of_debug_file(target.module->debug_file, target.module->build_id_hex());
  if (!target.debug_file_layout) {
    target.findings.note("glibc-debug-file-unused", Room::kGlibcHeap, target.module->range.start,
                         target.module->debug_file + " is not used: it does not say what the build's structures are");
  }
}

std::vector<GlibcLayout> likely_layouts(const Target& target) {
  std::vector<GlibcLayout> out;
  if (target.debug_file_layout) out.push_back(*target.debug_file_layout);
  if (const GlibcTable* named = glibc_table(target.banner_version)) out.push_back(named->layout);
  const std::span<const GlibcTable> tables = glibc_tables();
  for (auto table = tables.rbegin(); table != tables.rend(); ++table) out.push_back(table->layout);
  return out;
}

// Where the layout came from. DWARF of the exact build that the target's structures contradict is not believed.
void name_source(Target& target, Heap& heap) {
  heap.layout_source = "table";
  if (!target.debug_file_layout) return;
  if (same_shapes(*target.debug_file_layout, heap)) {
    heap.layout_source = "DWARF of build-id " + target.module->build_id_hex();
  } else {
    target.findings.note("glibc-layout-disagree", Room::kGlibcHeap, heap.arenas[0].address,
                         fmt::format("the structures are not as {} says", target.module->debug_file));
  }
}

// Names the table that has the shapes found in the target: that of the banner's version if it has them, else the range
// of those that do. A backport can make a mixture that no table has.
void name_layout(Target& target, Heap& heap) {
  const GlibcTable* oldest = glibc_table(target.banner_version);
  const GlibcTable* newest = oldest;
  if (oldest == nullptr || !same_shapes(oldest->layout, heap)) {
    oldest = newest = nullptr;
    for (const GlibcTable& table : glibc_tables()) {
      if (!same_shapes(table.layout, heap)) continue;
      if (oldest == nullptr) oldest = &table;
      newest = &table;
    }
  }
  name_source(target, heap);
  if (newest == nullptr) {
    heap.layout_version = "mixed";
    if (heap.layout_source != "table") return;  // known exactly, if no release's
    target.findings.note("glibc-layout-mixed", Room::kGlibcHeap, heap.arenas[0].address,
                         "the structures are a mixture that no known release has, as a backport makes");
    return;
  }
  heap.layout_version = newest->version;
  if (oldest != newest) heap.layout_version = fmt::format("{} to {}", oldest->version, newest->version);
  if (heap.par.address != 0 && heap.layout_source == "table") heap.layout.malloc_par = newest->layout.malloc_par;
}

// Starts from a whole layout that has the malloc_state that was found; what was not identified by itself keeps its
// shape.
void adopt_table(Target& target, Heap& heap) {
  const auto state = heap.layout.malloc_state;
  for (const GlibcLayout& layout : target.layouts) {
    if (layout.malloc_state != state) continue;
    heap.layout = layout;
    break;
  }
  heap.layout.malloc_par = {};
  heap.traits = traits_of(heap.layout);
}

}  // namespace

HeapSearch find_heap(const Snapshot& snapshot, Findings& findings, LayoutSource source) {
  HeapSearch search;
  for (const Replacement& replacement : kReplacements) {
    if (snapshot.module_named(replacement.module_prefix) != nullptr) search.other_allocator = replacement.name;
  }
  Target target{snapshot, Reader(snapshot.space), findings, nullptr, {}, {}};
  target.module = find_libc(snapshot);
  // Debian's musl is named as glibc is, in a folder of its own.
  const bool musl_libc = target.module != nullptr && target.module->path.find("-musl/") != std::string::npos;
  if (musl_libc) search.other_allocator = "musl";
  if (musl_libc || (target.module == nullptr && search.other_allocator == "musl")) {
    search.why_not = "the C library is musl, whose malloc is not understood";
    return search;
  }
  if (target.module == nullptr) target.module = snapshot.executable();  // a static program
  if (target.module != nullptr) {
    target.writable = snapshot.variables_of(*target.module);
    target.banner_version = banner_version(snapshot, *target.module);
  } else {
    target.writable = small_writable(snapshot);
  }

  if (source == LayoutSource::kDebugFileFirst) read_debug_file(target);
  target.layouts = likely_layouts(target);

  Heap heap;
  heap.module_path = target.module != nullptr ? target.module->path : "";
  heap.libc_version = target.banner_version;
  heap.other_allocator = search.other_allocator;
  for (const auto& [key, value] : snapshot.auxv) {
    if (key == AT_PAGESZ && value >= 4096 && value <= 1 << 20 && (value & (value - 1)) == 0) heap.page_bytes = value;
  }
  if (!locate_main_arena(target, heap)) {
    search.why_not = search.other_allocator.empty() ? "no main_arena was found in the C library's data"
                                                    : fmt::format("{} is in malloc's place", search.other_allocator);
    return search;
  }
  adopt_table(target, heap);
  locate_malloc_par(target, heap);
  heap.traits.heap_max_bytes = heap_max_bytes(heap.layout, heap.par.huge_page_bytes);
  find_arenas(target, heap);
  find_tcaches(target, heap);
  find_thread_arenas(target, heap);
  find_free_lists(target, heap);
  name_layout(target, heap);
  if (!search.other_allocator.empty() && heap.regions.empty() && heap.par.n_mmaps == 0) {
    search.why_not = fmt::format("{} is in malloc's place; glibc's own was never used", search.other_allocator);
    return search;
  }
  search.heap = std::move(heap);
  return search;
}

}  // namespace heapcore
