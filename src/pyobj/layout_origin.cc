#include "pyobj/layout_origin.h"

#include <algorithm>
#include <string_view>

#include "pyobj/debug_offsets.h"
#include "pyobj/layout_entries.h"

namespace heapcore {

std::vector<LayoutChoice> table_choices(const PyVersion& version, Reader& reader, Addr runtime_state) {
  std::vector<LayoutChoice> choices;
  for (const PyTraits& traits : candidate_traits(version)) {
    const DebugOffsets offsets = read_debug_offsets(reader, *traits.layout, runtime_state);
    LayoutChoice preferred{traits, {}};
    preferred.origin.debug_offsets = !offsets.carried.empty();
    if (!offsets.differing.empty()) {
      preferred.origin.own = std::make_shared<const PyLayout>(offsets.layout);
      preferred.traits.layout = preferred.origin.own.get();
    }
    choices.push_back(std::move(preferred));
    if (!offsets.differing.empty()) choices.push_back({traits, {}});
  }
  return choices;
}

std::vector<LayoutChoice> dwarf_choices(const PyVersion& version, const Module& module) {
  const std::string& file = module.debug_file.empty() ? module.file : module.debug_file;
  if (file.empty() || module.build_id.empty()) return {};
  const std::optional<PyLayout> layout = layout_of_python_debug_file(file, module.build_id_hex());
  if (!layout) return {};
  const auto dwarf = std::make_shared<const PyLayout>(*layout);
  std::vector<LayoutChoice> choices;
  for (const PyTraits& traits : candidate_traits(version)) {
    // Debug builds behave otherwise; which one it is, DWARF does not say. Of either, the likeliest table fills in.
    const bool known = std::any_of(choices.begin(), choices.end(), [&](const LayoutChoice& choice) {
      return choice.traits.debug_build == traits.debug_build;
    });
    if (known) continue;
    LayoutChoice choice{traits, {}};
    choice.origin.build_id = module.build_id_hex();
    choice.origin.dwarf = dwarf;
    // Extension modules' structures are not in the interpreter's DWARF.
    PyLayout whole = *layout;
    fill_in(whole, *traits.layout);
    // Free-threaded builds declare it, but no object has one.
    if (traits.layout->PyGC_Head.size_bytes == 0) whole.PyGC_Head = {};
    choice.origin.own = std::make_shared<const PyLayout>(whole);
    choice.traits.layout = choice.origin.own.get();
    choices.push_back(std::move(choice));
  }
  return choices;
}

namespace {

bool is_carried(std::string_view structure, std::string_view field, const PyLayout& layout) {
  static const std::vector<CarriedField> carried = carried_fields();
  return std::any_of(carried.begin(), carried.end(), [&](const CarriedField& each) {
    return structure == each.structure && field == each.field && each.entry(layout).present();
  });
}

}  // namespace

std::vector<FieldOrigin> describe_layout(const PyTraits& traits, const LayoutOrigin& origin) {
  const PyLayout* table_layout = py_table(traits.layout_version);
  if (table_layout == nullptr) table_layout = traits.layout;
  const std::string table = std::string("table ") + traits.layout_version;
  const std::string dwarf = "DWARF of build-id " + origin.build_id;
  std::vector<FieldOrigin> fields;
  for (const LayoutEntry& entry : layout_entries()) {
    if (entry.field == nullptr) continue;
    const Field place = field_at(*traits.layout, entry.offset);
    if (!place.present()) continue;
    const bool tabled = size_at(*table_layout, entry.size_offset) != 0;
    const bool in_dwarf = origin.dwarf && size_at(*origin.dwarf, entry.size_offset) != 0;
    const bool said = origin.debug_offsets && is_carried(entry.structure, entry.field, *traits.layout);
    fields.push_back({entry.structure, entry.field, place, tabled ? field_at(*table_layout, entry.offset) : place,
                      in_dwarf ? dwarf
                      : said   ? "_Py_DebugOffsets"
                               : table});
  }
  return fields;
}

}  // namespace heapcore
