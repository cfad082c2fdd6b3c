#include <fmt/format.h>

#include "report/format.h"
#include "report/holder_answers.h"
#include "report/json_parts.h"
#include "report/text_parts.h"

namespace heapcore {
namespace {

Json rows_json(const std::vector<RetainedRow>& rows) {
  Json list = Json::array();
  for (const RetainedRow& row : rows) {
    list.push_back({{"address", address_text(row.address)},
                    {"type", row.type},
                    {"bytes", row.bytes},
                    {"retained_bytes", row.retained_bytes},
                    {"root", text_or_null(row.root)},
                    {"path", row.path}});
  }
  return list;
}

Json groups_json(const std::vector<RetainedGroup>& groups) {
  Json list = Json::array();
  for (const RetainedGroup& group : groups) {
    Json entry = {{"module", group.module}};
    if (!group.name.empty()) entry["name"] = group.name;
    entry["count"] = group.count;
    entry["bytes"] = group.bytes;
    entry["retained_bytes"] = group.retained_bytes;
    list.push_back(std::move(entry));
  }
  return list;
}

std::string rows_text(const std::vector<RetainedRow>& rows) {
  TextTable table({{"retained", Align::kRight},
                   {"own", Align::kRight},
                   {"address", Align::kLeft},
                   {"type", Align::kLeft},
                   {"held by", Align::kLeft}});
  for (const RetainedRow& row : rows) {
    table.add({bytes_text(row.retained_bytes), bytes_text(row.bytes), address_text(row.address), printable(row.type),
               printable(row.path)});
  }
  return table.text("  ");
}

std::string groups_text(const std::vector<RetainedGroup>& groups) {
  TextTable table({{"retained", Align::kRight}, {"own", Align::kRight}, {"count", Align::kRight}, {"", Align::kLeft}});
  for (const RetainedGroup& group : groups) {
    const std::string name = group.name.empty()     ? group.module
                             : group.module.empty() ? group.name
                                                    : fmt::format("{}.{}", group.module, group.name);
    table.add({bytes_text(group.retained_bytes), bytes_text(group.bytes), count_text(group.count), printable(name)});
  }
  return table.text("  ");
}

}  // namespace

Json retained_json(const RetainedAnswer& answer) {
  Json document;
  if (!answer.chain.empty()) document["dominators"] = rows_json(answer.chain);
  document["objects"] = rows_json(answer.objects);
  document["objects_count"] = answer.objects_count;
  document["accumulation_points"] = rows_json(answer.accumulation);
  document["types"] = groups_json(answer.types);
  document["modules"] = groups_json(answer.modules);
  document["total"] = count_bytes(answer.total);
  return document;
}

std::string retained_text(const RetainedAnswer& answer, const TextStyle& style) {
  std::string text;
  if (!answer.chain.empty()) {
    text += heading("Dominators, from the root down to it", style) + rows_text(answer.chain);
    text += heading(fmt::format("What it dominates: {}", counted(answer.objects_count, "block")), style);
  } else {
    text += heading(fmt::format("What nothing else dominates: {}", counted(answer.objects_count, "block")), style);
  }
  text += rows_text(answer.objects);
  if (answer.objects.size() < answer.objects_count) {
    text += fmt::format("  ({} more; --limit 0 shows all)\n", count_text(answer.objects_count - answer.objects.size()));
  }
  if (!answer.accumulation.empty())
    text += heading("Where the largest of these pile it up", style) + rows_text(answer.accumulation);
  if (!answer.types.empty()) text += heading("By type", style) + groups_text(answer.types);
  if (!answer.modules.empty()) text += heading("By module of the type", style) + groups_text(answer.modules);
  return text;
}

}  // namespace heapcore
