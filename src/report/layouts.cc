#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "report/layout_answers.h"
#include "report/text_parts.h"

namespace heapcore {

nlohmann::ordered_json layouts_json(const std::vector<LayoutRow>& rows) {
  nlohmann::ordered_json fields = nlohmann::ordered_json::array();
  for (const LayoutRow& row : rows) {
    nlohmann::ordered_json field = {
        {"library", row.library},     {"structure", row.structure},     {"field", row.field},
        {"offset", row.place.offset}, {"bytes", row.place.width_bytes}, {"source", row.source}};
    if (row.differs) {
      field["table_offset"] = row.in_table.present() ? nlohmann::ordered_json(row.in_table.offset) : nullptr;
    }
    fields.push_back(std::move(field));
  }
  return fields;
}

std::string layouts_text(const std::vector<LayoutRow>& rows, const TextStyle& style) {
  TextTable table({{"structure", Align::kLeft},
                   {"field", Align::kLeft},
                   {"offset", Align::kRight},
                   {"bytes", Align::kRight},
                   {"from", Align::kLeft}});
  for (const LayoutRow& row : rows) {
    std::string source = row.source;
    if (row.differs) {
      source += row.in_table.present() ? fmt::format(" (the table says {})", row.in_table.offset)
                                       : std::string(" (not in the table)");
    }
    table.add({row.structure, row.field, fmt::format("{}", row.place.offset), fmt::format("{}", row.place.width_bytes),
               source});
  }
  return heading("Layouts", style) + table.text("  ");
}

}  // namespace heapcore
