#include "pyobj/runtime_search.h"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace heapcore {
namespace {

constexpr std::size_t kMaxInterpreters = 1000;
constexpr int kGenerations = 3;

// Calls visit(address, word) for each aligned word that is there, until it says true.
template <typename Visit>
bool any_word(Reader& reader, AddrRange range, Visit&& visit) {
  Addr at = align_up(range.start, 8);
  while (at + 8 <= range.end) {
    const std::span<const std::byte> bytes = reader.span_to_end(at);
    if (bytes.size() < 8) {
      at = align_up(std::min(std::max(at + 8, reader.space().next_present(at)), range.end), 8);
      continue;
    }
    const std::uint64_t n = align_down(std::min<std::uint64_t>(bytes.size(), range.end - at), 8);
    for (std::uint64_t i = 0; i < n; i += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data() + i, 8);
      if (visit(at + i, word)) return true;
    }
    at += n;
  }
  return false;
}

AddrRange searched_part(const Mapping& mapping) {
  return {mapping.start, mapping.start + std::min(mapping.size_bytes(), kMaxSearchedBytes)};
}

bool is_pointer(std::uint64_t word) {
  return word >= 4096 && is_aligned(word, 8);
}

}  // namespace

std::optional<PyVersion> version_in_name(std::string_view name) {
  const std::size_t at = name.find("python");
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view digits = name.substr(at + 6);
  unsigned major_version = 0;
  unsigned minor_version = 0;
  const char* end = digits.data() + digits.size();
  const auto [dot, bad_major] = std::from_chars(digits.data(), end, major_version);
  if (bad_major != std::errc() || dot == end || *dot != '.') return std::nullopt;
  const auto [rest, bad_minor] = std::from_chars(dot + 1, end, minor_version);
  if (bad_minor != std::errc() || major_version > 9 || minor_version > 99) return std::nullopt;
  return PyVersion{major_version << 24 | minor_version << 16 | 0xf0, false};
}

// No more of each than can be searched.
std::vector<AddrRange> RuntimeSearch::variables_of(const Module& module) const {
  std::vector<AddrRange> ranges = snapshot_.variables_of(module);
  for (AddrRange& range : ranges) range.end = std::min(range.end, range.start + kMaxSearchedBytes);
  return ranges;
}

// Sorted by how likely a Python is there. A core that was cut short may name no module; then every writable mapping may
// be one's.
std::vector<RuntimeSearch::Area> RuntimeSearch::all_areas() const {
  std::vector<Area> areas;
  for (const Mapping& mapping : snapshot_.mappings) {
    if (!mapping.writable || mapping.shared) continue;
    const Module* module = snapshot_.owner_of(mapping);
    if (module == nullptr && !snapshot_.modules.empty()) continue;
    areas.push_back({searched_part(mapping), &mapping, module});
  }
  const auto rank = [](const Area& area) {
    if (area.module == nullptr) return 3;
    if (area.module->name().find("python") != std::string_view::npos) return 0;
    return area.module->is_executable ? 1 : 2;
  };
  std::stable_sort(areas.begin(), areas.end(), [&](const Area& a, const Area& b) { return rank(a) < rank(b); });
  return areas;
}

bool RuntimeSearch::saw_everything() const {
  const std::vector<Area> areas = all_areas();
  return !snapshot_.modules.empty() && std::all_of(areas.begin(), areas.end(), [](const Area& area) {
    return area.mapping->not_dumped_bytes == 0 && area.range.end == area.mapping->end;
  });
}

std::optional<TypeAnchor> RuntimeSearch::find_type_type() {
  // The layouts differ in little that matters here; those that are alike are tried once.
  std::vector<const PyLayout*> shapes;
  for (const PyTable& table : py_tables()) {
    const bool known = std::any_of(shapes.begin(), shapes.end(), [&](const PyLayout* shape) {
      return std::memcmp(&shape->PyObject, &table.layout.PyObject, sizeof shape->PyObject) == 0 &&
             std::memcmp(&shape->PyTypeObject, &table.layout.PyTypeObject, sizeof shape->PyTypeObject) == 0;
    });
    if (!known) shapes.push_back(&table.layout);
  }
  for (const Area& area : all_areas()) {
    std::optional<TypeAnchor> anchor;
    any_word(reader_, area.range, [&](Addr at, std::uint64_t word) {
      // Few words lead to themselves or to a near neighbour.
      if (at - word > 64) return false;
      for (const PyLayout* layout : shapes) {
        if (at - word != layout->PyObject.ob_type.offset || !is_type_type(word, *layout)) continue;
        anchor.emplace();
        anchor->type_type = word;
        return true;
      }
      return false;
    });
    if (!anchor) continue;
    if (area.module != nullptr) {
      anchor->module = *area.module;
    } else {
      anchor->module.path = area.mapping->path;
      anchor->module.range = {area.mapping->start, area.mapping->end};
    }
    return anchor;
  }
  return std::nullopt;
}

// Its own type, a ready subclass of itself that the collector knows, and derived from `object`, which is derived from
// nothing and holds nothing but an object's head.
bool RuntimeSearch::is_type_type(Addr address, const PyLayout& layout) {
  const auto& fields = layout.PyTypeObject;
  const auto word = [&](Addr type, const Field& field) {
    std::uint64_t value = 0;
    return reader_.try_load(type + field.offset, value) ? value : ~std::uint64_t{0};
  };
  constexpr std::uint64_t kWanted = tp_flag::kTypeSubclass | tp_flag::kHaveGc | tp_flag::kReady;
  if (word(address, layout.PyObject.ob_type) != address) return false;
  if ((word(address, fields.tp_flags) & (kWanted | tp_flag::kHeapType)) != kWanted) return false;
  const std::uint64_t basicsize = word(address, fields.tp_basicsize);
  if (basicsize < fields.tp_flags.offset || basicsize > 4096) return false;
  const Addr object = word(address, fields.tp_base);
  return is_pointer(object) && word(object, layout.PyObject.ob_type) == address && word(object, fields.tp_base) == 0 &&
         word(object, fields.tp_basicsize) == layout.PyObject.size_bytes &&
         (word(object, fields.tp_flags) & tp_flag::kReady) != 0;
}

bool RuntimeSearch::is_dict(Addr address, const PyLayout& layout, Addr type_type) {
  Addr type = 0;
  Addr metatype = 0;
  std::uint64_t flags = 0;
  return is_pointer(address) && reader_.try_load(address + layout.PyObject.ob_type.offset, type) && is_pointer(type) &&
         reader_.try_load(type + layout.PyObject.ob_type.offset, metatype) && metatype == type_type &&
         reader_.try_load(type + layout.PyTypeObject.tp_flags.offset, flags) && (flags & tp_flag::kDictSubclass) != 0;
}

bool RuntimeSearch::has_dicts(Addr interpreter, const PyLayout& layout, Addr type_type) {
  for (const Field& field : {layout.PyInterpreterState.sysdict, layout.PyInterpreterState.builtins}) {
    Addr dict = 0;
    if (!field.present() || !reader_.try_load(interpreter + field.offset, dict)) return false;
    if (!is_dict(dict, layout, type_type)) return false;
  }
  return true;
}

// How many interpreters the list from `first` on has; 0 if one does not verify or if `must_meet` is not among them.
std::size_t RuntimeSearch::interpreters_from(Addr first, const PyLayout& layout, Addr must_meet,
                                             const std::function<bool(Addr)>& verify) {
  std::size_t count = 0;
  bool met = must_meet == 0;
  for (Addr at = first; at != 0; ++count) {
    if (count == kMaxInterpreters || !is_pointer(at) || !verify(at)) return 0;
    met = met || at == must_meet;
    if (!reader_.try_load(at + layout.PyInterpreterState.next.offset, at)) return 0;
  }
  return met ? count : 0;
}

// Several variables point to interpreters; the list's head is the one from which most can be reached.
std::optional<Addr> RuntimeSearch::find_interpreters_head(const Module& module, const PyTraits& traits, Addr type_type,
                                                          const std::function<bool(Addr)>& verify) {
  const PyLayout& layout = *traits.layout;
  const auto& fields = layout.PyInterpreterState;
  const bool in_runtime = traits.gc_home != GcHome::kStatic;
  const std::uint64_t to_main =
      layout._PyRuntimeState.interpreters_main.offset - layout._PyRuntimeState.interpreters_head.offset;
  std::optional<Addr> best;
  std::size_t best_count = 0;
  for (const AddrRange& range : variables_of(module)) {
    any_word(reader_, range, [&](Addr at, std::uint64_t word) {
      Addr thread = 0;
      Addr owner = 0;
      Addr main = 0;
      if (!is_pointer(word) || !reader_.try_load(word + fields.threads_head.offset, thread) || !is_pointer(thread) ||
          !reader_.try_load(thread + layout.PyThreadState.interp.offset, owner) || owner != word) {
        return false;
      }
      if (!has_dicts(word, layout, type_type)) return false;
      if (in_runtime && (!reader_.try_load(at + to_main, main) || main == 0)) return false;
      const std::size_t count = interpreters_from(word, layout, main, verify);
      if (count > best_count) best = at;
      best_count = std::max(best_count, count);
      return false;
    });
  }
  return best;
}

std::optional<Addr> RuntimeSearch::find_generations(const Module& module, const PyTraits& traits, Addr type_type) {
  std::optional<Addr> found;
  for (const AddrRange& range : variables_of(module)) {
    any_word(reader_, range, [&](Addr at, std::uint64_t word) {
      if (!is_pointer(word) || !is_generations(at, traits, type_type)) return false;
      found = at;
      return true;
    });
    if (found) break;
  }
  return found;
}

// Three rings in a row that close, through objects of the collector's in at least one of them.
bool RuntimeSearch::is_generations(Addr address, const PyTraits& traits, Addr type_type) {
  const PyLayout& layout = *traits.layout;
  const auto& fields = layout.PyGC_Head;
  bool any_object = false;
  for (int i = 0; i < kGenerations; ++i) {
    const Addr head = address + static_cast<std::uint64_t>(i) * layout.gc_generation.size_bytes;
    Addr next = 0;
    Addr prev = 0;
    Addr back = 0;
    Addr forth = 0;
    std::int32_t threshold = 0;
    if (!reader_.try_load(head + fields._gc_next.offset, next) || !is_pointer(next) ||
        !reader_.try_load(head + fields._gc_prev.offset, prev) || !is_pointer(prev) ||
        !reader_.try_load(next + fields._gc_prev.offset, back) || back != head ||
        !reader_.try_load(prev + fields._gc_next.offset, forth) || forth != head ||
        !reader_.try_load(head + layout.gc_generation.threshold.offset, threshold) || threshold < 0) {
      return false;
    }
    if (next == head) continue;
    Addr type = 0;
    Addr metatype = 0;
    std::uint64_t flags = 0;
    any_object =
        any_object ||
        (reader_.try_load(next + traits.gc_head_bytes() + layout.PyObject.ob_type.offset, type) && is_pointer(type) &&
         reader_.try_load(type + layout.PyObject.ob_type.offset, metatype) && metatype == type_type &&
         reader_.try_load(type + layout.PyTypeObject.tp_flags.offset, flags) && (flags & tp_flag::kHaveGc) != 0);
  }
  return any_object;
}

std::optional<Addr> RuntimeSearch::find_debug_offsets(const Module& module) {
  std::optional<Addr> found;
  for (const AddrRange& range : variables_of(module)) {
    const bool here = any_word(reader_, range, [&](Addr at, std::uint64_t word) {
      if (word == kDebugOffsetsCookie) found = at;
      return found.has_value();
    });
    if (here) break;
  }
  return found;
}

}  // namespace heapcore
