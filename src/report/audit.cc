#include <fmt/format.h>

#include "report/format.h"
#include "report/holder_answers.h"
#include "report/json_parts.h"
#include "report/text_parts.h"

namespace heapcore {

Json audit_json(const AuditAnswer& answer) {
  Json types = Json::array();
  for (const AuditRow& row : answer.types) {
    types.push_back({{"type", row.type},
                     {"count", row.count},
                     {"bytes", row.bytes},
                     {"excess_references", row.excess},
                     {"lost", row.lost},
                     {"example", address_text(row.example)}});
  }
  Json objects = Json::array();
  for (const AuditObject& object : answer.objects) {
    objects.push_back({{"address", address_text(object.address)},
                       {"type", object.type},
                       {"refcount", object.refcount},
                       {"excess_references", object.excess},
                       {"lost", object.lost}});
  }
  Json known = Json::array();
  for (const AuditObject& object : answer.never_given_back)
    known.push_back({{"address", address_text(object.address)}, {"type", object.type}, {"name", object.name}});
  return {{"types", std::move(types)},          {"types_count", answer.types_count},
          {"objects", std::move(objects)},      {"objects_count", answer.objects_count},
          {"excess_references", answer.excess}, {"never_given_back", std::move(known)}};
}

std::string audit_text(const AuditAnswer& answer, const TextStyle&) {
  std::string known;
  for (const AuditObject& object : answer.never_given_back)
    known += fmt::format("{}{}", known.empty() ? "" : ", ", object.name.empty() ? object.type : object.name);
  if (!known.empty())
    known = fmt::format("left out, since this version of CPython itself counts one reference too many: {}\n",
                        printable(known));
  if (answer.objects_count == 0) return "every reference count is explained by the references found\n" + known;
  std::string text = fmt::format("{} with {} more than were found\n", counted(answer.objects_count, "object"),
                                 counted(answer.excess, "reference"));
  TextTable table({{"excess", Align::kRight},
                   {"objects", Align::kRight},
                   {"held by nothing", Align::kRight},
                   {"bytes", Align::kRight},
                   {"one of them", Align::kLeft},
                   {"type", Align::kLeft}});
  for (const AuditRow& row : answer.types) {
    table.add({count_text(row.excess), count_text(row.count), count_text(row.lost), bytes_text(row.bytes),
               address_text(row.example), printable(row.type)});
  }
  text += table.text("  ");
  if (answer.types.size() < answer.types_count)
    text += fmt::format("  ({} more; --limit 0 shows all)\n", count_text(answer.types_count - answer.types.size()));
  return text + known;
}

}  // namespace heapcore
