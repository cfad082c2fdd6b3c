#include <fmt/format.h>

#include <algorithm>

#include "report/format.h"
#include "report/json_parts.h"
#include "report/refs_answers.h"
#include "report/text_parts.h"

namespace heapcore {
namespace {

Json list_json(const std::vector<Reference>& references) {
  Json list = Json::array();
  for (const Reference& reference : references) {
    list.push_back({{"edge", reference.edge},
                    {"kind", ref_kind_name(reference.kind)},
                    {"address", address_text(reference.address)},
                    {"type", text_or_null(reference.type)},
                    {"bytes", reference.bytes}});
    if (reference.retained_bytes) list.back()["retained_bytes"] = *reference.retained_bytes;
  }
  return list;
}

std::string list_text(const std::string& title, const std::vector<Reference>& references, std::uint64_t count) {
  std::string text = fmt::format("  {} ({})\n", title, count_text(count));
  const bool has_retained = std::any_of(references.begin(), references.end(),
                                        [](const Reference& each) { return each.retained_bytes.has_value(); });
  TextTable table({{"edge", Align::kLeft},
                   {"kind", Align::kLeft},
                   {"address", Align::kLeft},
                   {"type", Align::kLeft},
                   {"bytes", Align::kRight},
                   {has_retained ? "retained" : "", Align::kRight}});
  for (const Reference& reference : references) {
    table.add({printable(reference.edge), std::string(ref_kind_name(reference.kind)), address_text(reference.address),
               reference.type.empty() ? "-" : printable(reference.type), count_text(reference.bytes),
               reference.retained_bytes ? count_text(*reference.retained_bytes) : ""});
  }
  if (!references.empty()) text += table.text("    ");
  if (references.size() < count)
    text += fmt::format("    ({} more; --limit 0 shows all)\n", count_text(count - references.size()));
  return text;
}

}  // namespace

Json refs_json(const std::vector<ReferencesOf>& answers) {
  Json list = Json::array();
  for (const ReferencesOf& answer : answers) {
    list.push_back({{"asked", address_text(answer.asked)},
                    {"address", answer.address == 0 ? Json(nullptr) : Json(address_text(answer.address))},
                    {"type", text_or_null(answer.type)},
                    {"bytes", answer.bytes},
                    {"out", list_json(answer.out)},
                    {"out_count", answer.out_count},
                    {"in", list_json(answer.in)},
                    {"in_count", answer.in_count}});
    if (answer.retained_bytes) list.back()["retained_bytes"] = *answer.retained_bytes;
  }
  Json document;
  document["addresses"] = std::move(list);
  return document;
}

std::string refs_text(const std::vector<ReferencesOf>& answers, const TextStyle&) {
  std::string text;
  for (const ReferencesOf& answer : answers) {
    if (!text.empty()) text += '\n';
    text += address_text(answer.asked);
    if (answer.address == 0) {
      text += "\n  no object and no block in use is there\n";
      continue;
    }
    if (answer.address != answer.asked) text += fmt::format(", in {}", address_text(answer.address));
    text += fmt::format("  {}, {} B\n", answer.type.empty() ? "a block that is no object" : printable(answer.type),
                        count_text(answer.bytes));
    if (answer.retained_bytes) text += fmt::format("  retains {} B\n", count_text(*answer.retained_bytes));
    text += list_text("refers to", answer.out, answer.out_count);
    text += list_text("is referred to by", answer.in, answer.in_count);
  }
  return text;
}

}  // namespace heapcore
