#include <fmt/format.h>

#include <algorithm>

#include "report/format.h"
#include "report/json_parts.h"
#include "report/space_answers.h"
#include "report/text_parts.h"

namespace heapcore {
namespace {

Json figures_json(const WasteFigures& figures) {
  return {{"count", figures.count}, {"bytes", figures.bytes}, {"wasted_bytes", figures.wasted_bytes}};
}

Json addresses_json(const std::vector<Addr>& addresses) {
  Json list = Json::array();
  for (const Addr address : addresses) list.push_back(address_text(address));
  return list;
}

// "duplicate strings".
std::string kind_text(WasteKind kind) {
  std::string text(waste_kind_name(kind));
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

std::string or_several(const std::string& holder) {
  return holder.empty() ? "several, or roots" : printable(holder);
}

std::string left_out(std::size_t shown, std::uint64_t count) {
  return shown < count ? fmt::format("  ({} more; --limit 0 shows all)\n", count_text(count - shown)) : "";
}

std::string strings_text(const WasteAnswer& answer, const TextStyle& style) {
  if (answer.strings.empty()) return "";
  TextTable table({{"wasted", Align::kRight},
                   {"copies", Align::kRight},
                   {"length", Align::kRight},
                   {"type", Align::kLeft},
                   {"one of them", Align::kLeft},
                   {"held by", Align::kLeft},
                   {"", Align::kLeft}});
  for (const DuplicateString& string : answer.strings) {
    table.add({bytes_text(string.figures.wasted_bytes), count_text(string.figures.count), count_text(string.length),
               printable(string.type), address_text(string.objects.front()), printable(string.path),
               string.text.empty() ? "" : "'" + printable(string.text) + "'"});
  }
  return heading("Strings with equal contents", style) + table.text("  ") +
         left_out(answer.strings.size(), answer.strings_count);
}

}  // namespace

Json waste_json(const WasteAnswer& answer) {
  Json rows = Json::array();
  for (const WasteRow& row : answer.waste) {
    Json out = {{"kind", waste_kind_name(row.kind)}, {"type", row.type}};
    out.update(figures_json(row.figures));
    out["held_by"] = text_or_null(row.held_by);
    out["path"] = row.path;
    out["objects"] = addresses_json(row.objects);
    rows.push_back(std::move(out));
  }
  Json strings = Json::array();
  for (const DuplicateString& string : answer.strings) {
    Json out = {{"type", string.type}, {"length", string.length}};
    out.update(figures_json(string.figures));
    out["held_by"] = text_or_null(string.held_by);
    out["path"] = string.path;
    out["objects"] = addresses_json(string.objects);
    out["text"] = text_or_null(string.text);
    strings.push_back(std::move(out));
  }
  Json kinds = Json::object();
  for (std::size_t i = 0; i < kWasteKinds; ++i)
    kinds[std::string(waste_kind_name(static_cast<WasteKind>(i)))] = figures_json(answer.by_kind[i]);
  return {{"waste", std::move(rows)},      {"waste_count", answer.waste_count},
          {"strings", std::move(strings)}, {"strings_count", answer.strings_count},
          {"kinds", std::move(kinds)},     {"total", figures_json(answer.total)}};
}

std::string waste_text(const WasteAnswer& answer, const TextStyle& style) {
  if (answer.waste.empty()) return "no waste of the kinds that heapcore knows was found\n";
  std::string text = fmt::format("{} wasted; nothing is counted twice\n", bytes_text(answer.total.wasted_bytes));
  TextTable kinds(
      {{"wasted", Align::kRight}, {"of", Align::kRight}, {"objects", Align::kRight}, {"what", Align::kLeft}});
  for (std::size_t i = 0; i < kWasteKinds; ++i) {
    const WasteFigures& figures = answer.by_kind[i];
    if (figures.count == 0) continue;
    kinds.add({bytes_text(figures.wasted_bytes), bytes_text(figures.bytes), count_text(figures.count),
               kind_text(static_cast<WasteKind>(i))});
  }
  text += kinds.text("  ") + heading("By type and holder", style);
  TextTable table({{"wasted", Align::kRight},
                   {"of", Align::kRight},
                   {"objects", Align::kRight},
                   {"what", Align::kLeft},
                   {"type", Align::kLeft},
                   {"held by", Align::kLeft},
                   {"one of them", Align::kLeft},
                   {"", Align::kLeft}});
  for (const WasteRow& row : answer.waste) {
    table.add({bytes_text(row.figures.wasted_bytes), bytes_text(row.figures.bytes), count_text(row.figures.count),
               kind_text(row.kind), printable(row.type), or_several(row.held_by),
               row.objects.empty() ? "" : address_text(row.objects.front()), printable(row.path)});
  }
  return text + table.text("  ") + left_out(answer.waste.size(), answer.waste_count) + strings_text(answer, style);
}

}  // namespace heapcore
