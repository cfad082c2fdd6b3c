#include "pyobj/py_traits.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>

namespace heapcore {
namespace {

// One row a minor version: how it behaves. Its layouts are the tables made from its patch releases.
struct Row {
  unsigned major_version;
  unsigned minor_version;
  PyTraits traits;
  bool free_threaded = false;
};

// _PyFrameState's FRAME_CLEARED.
constexpr std::int8_t frame_cleared(GenState gen_state) {
  return gen_state == GenState::kFromZero ? 5 : 4;
}

// The count has 32 bits; above it, 16 that are 0 in a live object (in one on a free list a link lies over them), then
// flags.
constexpr PyTraits traits_3_14(GenState gen_state) {
  return {.arena_bytes = 1 << 20,
          .pool_bytes = 16 << 10,
          .long_rep = LongRep::kLvTag,
          .pre_header = PreHeader::kManagedDictOrWeakref,
          .int_counts_one_digit = true,
          .gen_state = gen_state,
          .frame_cleared = frame_cleared(gen_state),
          .obmalloc_home = ObmallocHome::kInterpreterPointer,
          .refcnt_mask = 0xff00ffffffffffff,
          .refcnt_bound = std::uint64_t{1} << 32};
}

// Builds without the GIL. Their deferred references were one to 3.13.
constexpr PyTraits free_threaded_traits(GenState gen_state) {
  return {.long_rep = LongRep::kLvTag,
          .pre_header = PreHeader::kManagedDictOrWeakref,
          .gc_head = GcHead::kNone,
          .int_counts_one_digit = true,
          .gen_state = gen_state,
          .frame_cleared = frame_cleared(gen_state),
          .obmalloc_home = ObmallocHome::kNowhere,
          .deferred_refs = 1,
          .gc_untracks_dicts = true};
}
constexpr PyTraits free_threaded_traits_3_14(GenState gen_state) {
  PyTraits traits = free_threaded_traits(gen_state);
  traits.str_interned_bits = 8;
  traits.deferred_refs = std::numeric_limits<std::int64_t>::max() / 8;  // _Py_REF_DEFERRED
  traits.bytesio_must_own_buffer = true;
  traits.gc_untracks_dicts = false;
  return traits;
}

// The runtime makes these modules and keeps its reference to none of them, nor gives it back (Python/pylifecycle.c).
constexpr std::array<NeverGivenBack, 5> kOwnModules{
    {{"builtins.module", "sys"}, {"builtins.module", "builtins"}, {"builtins.module", "_warnings"}}};

const Row kRows[] = {
    {2,
     7,
     {.arena_bytes = 256 << 10,
      .pool_bytes = 4 << 10,
      .gc_head = GcHead::kRefsWord,
      .int_size_from_type = true,
      .str_rep = StrRep::kTwoTypes,
      .number_home = NumberHome::kNumberBlocks,
      .builtins_module = "__builtin__",
      .unready_types = true,
      .static_types_named_as_held = false,
      .stgdict_has_sizeof = false,
      .itertools_has_sizeof = false,
      .deque_block_items = 62,
      .c_instances_visit_type = false,
      .gc_home = GcHome::kStatic}},
    {3,
     6,
     {.arena_bytes = 256 << 10,
      .pool_bytes = 4 << 10,
      .gc_head = GcHead::kShiftedRefsWord,
      .unready_types = true,
      .static_types_named_as_held = false,
      .stgdict_has_sizeof = false,
      .c_instances_visit_type = false,
      .lru_links = LruLinks::kVisited,
      .ordered_dict_shows_pairs = true,
      // _multiprocessing.SemLock.SEM_VALUE_MAX
      .never_given_back = {{{"builtins.module", "sys"},
                            {"builtins.module", "builtins"},
                            {"builtins.module", "_warnings"},
                            {"builtins.int", "2147483647"},
                            {"datetime.timezone", nullptr}}},
      .gc_home = GcHome::kStatic}},
    {3,
     7,
     {.arena_bytes = 256 << 10,
      .pool_bytes = 4 << 10,
      .gc_head = GcHead::kShiftedRefsWord,
      .unready_types = true,
      .static_types_named_as_held = false,
      .c_instances_visit_type = false,
      .lru_links = LruLinks::kContentsVisited,
      .ordered_dict_shows_pairs = true,
      .never_given_back = kOwnModules,
      .gc_home = GcHome::kRuntime}},
    {3,
     8,
     {.arena_bytes = 256 << 10,
      .pool_bytes = 4 << 10,
      .unready_types = true,
      .static_types_named_as_held = false,
      .c_instances_visit_type = false,
      .lru_links = LruLinks::kContentsVisited,
      .ordered_dict_shows_pairs = true,
      .never_given_back = kOwnModules,
      .gc_home = GcHome::kRuntime}},
    {3,
     9,
     {.arena_bytes = 256 << 10,
      .pool_bytes = 4 << 10,
      .unready_types = true,
      .static_types_named_as_held = false,
      .lru_links = LruLinks::kContentsVisited,
      .ordered_dict_shows_pairs = true,
      .never_given_back = {{{"builtins.type", "select.poll"}}}}},
    {3, 10, {.arena_bytes = 1 << 20, .pool_bytes = 16 << 10, .unready_types = true, .ordered_dict_shows_pairs = true}},
    {3,
     11,
     {.arena_bytes = 1 << 20,
      .pool_bytes = 16 << 10,
      .pre_header = PreHeader::kManagedDict,
      .int_counts_one_digit = true,
      .static_types_count_header = true,
      .gen_state = GenState::kFromMinusTwo,
      .ordered_dict_shows_pairs = true}},
    // Objects that live for ever have a count of 2^32 - 1.
    {3,
     12,
     {.arena_bytes = 1 << 20,
      .pool_bytes = 16 << 10,
      .long_rep = LongRep::kLvTag,
      .pre_header = PreHeader::kManagedDictOrWeakref,
      .int_counts_one_digit = true,
      .static_types_count_header = true,
      .gen_state = GenState::kFromMinusTwo,
      .obmalloc_home = ObmallocHome::kInterpreter}},
    {3,
     13,
     {.arena_bytes = 1 << 20,
      .pool_bytes = 16 << 10,
      .long_rep = LongRep::kLvTag,
      .pre_header = PreHeader::kManagedDictOrWeakref,
      .int_counts_one_digit = true,
      .gen_state = GenState::kFromMinusThree,
      .obmalloc_home = ObmallocHome::kInterpreterPointer}},
    {3, 14, traits_3_14(GenState::kFromMinusThree)},
    {3, 15, traits_3_14(GenState::kFromZero)},
    {3, 13, free_threaded_traits(GenState::kFromMinusThree), true},
    {3, 14, free_threaded_traits_3_14(GenState::kFromMinusThree), true},
    {3, 15, free_threaded_traits_3_14(GenState::kFromZero), true},
};

const Row* row_for(const PyVersion& version) {
  for (const Row& row : kRows) {
    if (row.major_version == version.major_version() && row.minor_version == version.minor_version() &&
        row.free_threaded == version.free_threaded) {
      return &row;
    }
  }
  return nullptr;
}

struct PatchLayout {
  unsigned patch = 0;
  bool debug_build = false;
  const char* table_version = "";
  PyLayout layout;
};

// A table "3.13.5", or "3.13.5d" of a debug build, "3.13.5t" of a free-threaded one, if it is of that row.
std::optional<PatchLayout> patch_layout(const PyTable& table, const Row& row) {
  const std::string prefix = fmt::format("{}.{}.", row.major_version, row.minor_version);
  if (std::strncmp(table.version, prefix.c_str(), prefix.size()) != 0) return std::nullopt;
  PatchLayout result{.table_version = table.version, .layout = table.layout};
  const char* digits = table.version + prefix.size();
  const auto [rest, bad] = std::from_chars(digits, digits + std::strlen(digits), result.patch);
  std::string_view suffix = rest;
  if (bad != std::errc() || suffix.starts_with('t') != row.free_threaded) return std::nullopt;
  if (row.free_threaded) suffix.remove_prefix(1);
  result.debug_build = suffix == "d";
  if (!suffix.empty() && !result.debug_build) return std::nullopt;
  // It is declared in free-threaded builds, but no object has one.
  if (row.free_threaded) result.layout.PyGC_Head = {};
  return result;
}

std::vector<PatchLayout> collect_layouts(const Row& row) {
  std::vector<PatchLayout> layouts;
  for (const PyTable& table : py_tables()) {
    if (const auto layout = patch_layout(table, row)) layouts.push_back(*layout);
  }
  // Where a distribution's debug package lacks the extension modules, what a table says nothing of is as in the minor's
  // others.
  for (PatchLayout& layout : layouts) {
    for (const PatchLayout& other : layouts) fill_in(layout.layout, other.layout);
  }
  // A minor whose debug builds have no table of their own has the same layout in both.
  if (std::none_of(layouts.begin(), layouts.end(), [](const PatchLayout& layout) { return layout.debug_build; })) {
    for (std::size_t i = 0, count = layouts.size(); i < count; ++i) {
      layouts.push_back(layouts[i]);
      layouts.back().debug_build = true;
    }
  }
  std::sort(layouts.begin(), layouts.end(), [](const auto& a, const auto& b) { return a.patch > b.patch; });
  return layouts;
}

// Newest first. Made once; the layouts stay where they are.
const std::vector<PatchLayout>& layouts_of(const Row& row) {
  static const std::vector<std::vector<PatchLayout>> all = [] {
    std::vector<std::vector<PatchLayout>> result;
    for (const Row& each : kRows) result.push_back(collect_layouts(each));
    return result;
  }();
  return all[static_cast<std::size_t>(&row - kRows)];
}

// What changed from one patch release to another. Of an unknown patch, the newest behaviour is taken.
void adapt_to_patch(PyTraits& traits, unsigned minor, unsigned patch) {
  traits.ordered_dict_visits_weakrefs = minor == 6 || (minor == 7 && patch < 7) || (minor == 8 && patch < 3);
  traits.dict_visits_inline_values = minor > 14 || (minor == 14 && patch >= 4) || (minor == 13 && patch >= 13);
  traits.type_variables_visit_name = minor > 14 || (minor == 14 && patch >= 1) || (minor == 13 && patch >= 10);
  traits.cleared_generator_visits_code = minor >= 14;
  traits.methodcaller_args_are_tuple = minor >= 14;
}

}  // namespace

std::string PyVersion::text() const {
  const unsigned patch = hex >> 8 & 0xff;
  std::string result = fmt::format("{}.{}", major_version(), minor_version());
  if (!patch_known) return result;
  result += fmt::format(".{}", patch);
  const unsigned level = hex >> 4 & 0xf;
  if (level != 0xf) result += fmt::format("{}{}", level == 0xa ? "a" : level == 0xb ? "b" : "rc", hex & 0xf);
  return result;
}

std::vector<PyTraits> candidate_traits(const PyVersion& version) {
  std::vector<PyTraits> candidates;
  const Row* row = row_for(version);
  if (row == nullptr) return candidates;
  const unsigned patch = version.patch_known ? version.hex >> 8 & 0xff : ~0U;
  const std::vector<PatchLayout>& layouts = layouts_of(*row);
  const auto add = [&](const PatchLayout& layout) {
    PyTraits traits = row->traits;
    traits.version = version;
    traits.layout = &layout.layout;
    traits.layout_version = layout.table_version;
    traits.debug_build = layout.debug_build;
    adapt_to_patch(traits, version.minor_version(), patch);
    candidates.push_back(traits);
  };
  // A layout holds until the next one; so the newest that is not newer than the version, and if that fails its
  // neighbours.
  for (const bool debug_build : {false, true}) {
    for (const PatchLayout& layout : layouts) {
      if (layout.debug_build == debug_build && layout.patch <= patch) add(layout);
    }
    for (auto layout = layouts.rbegin(); layout != layouts.rend(); ++layout) {
      if (layout->debug_build == debug_build && layout->patch > patch) add(*layout);
    }
  }
  return candidates;
}

std::optional<PyTraits> traits_for(const PyVersion& version) {
  const std::vector<PyTraits> candidates = candidate_traits(version);
  if (candidates.empty()) return std::nullopt;
  return candidates.front();
}

std::vector<PyVersion> supported_versions(bool free_threaded) {
  std::vector<PyVersion> versions;
  for (const Row& row : kRows) {
    if (row.free_threaded != free_threaded || layouts_of(row).empty()) continue;
    versions.push_back({row.major_version << 24 | row.minor_version << 16 | 0xf0, false, free_threaded});
  }
  return versions;
}

}  // namespace heapcore
