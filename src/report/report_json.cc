#include "report/format.h"
#include "report/holder_answers.h"
#include "report/json_parts.h"
#include "report/native_answers.h"
#include "report/report_answers.h"
#include "report/space_answers.h"
#include "report/version.h"

namespace heapcore {
namespace {

Json diagnoses_json(const std::vector<Diagnosis>& diagnoses) {
  Json list = Json::array();
  for (const Diagnosis& diagnosis : diagnoses) {
    Json objects = Json::array();
    for (const Addr address : diagnosis.objects) objects.push_back(address_text(address));
    list.push_back({{"code", diagnosis.code},
                    {"severity", severity_name(diagnosis.severity)},
                    {"title", diagnosis.title},
                    {"bytes", diagnosis.bytes},
                    {"evidence", diagnosis.evidence},
                    {"advice", diagnosis.advice},
                    {"objects", std::move(objects)}});
  }
  return list;
}

Json confidence_json(const Process& process, const Incident& incident) {
  Json answer;
  const PyRuntime* runtime = process.runtime();
  answer["python"] = process.python.version.empty()
                         ? Json(nullptr)
                         : Json{{"version", process.python.version},
                                {"build", build_text(process.python)},
                                {"decoded", runtime != nullptr},
                                {"located_by", runtime == nullptr ? Json(nullptr) : Json(runtime->located_by)},
                                {"layout", runtime == nullptr ? Json(nullptr) : Json(runtime->traits.layout_version)}};
  const Heap* heap = process.heap();
  answer["malloc"] = heap == nullptr ? Json(nullptr)
                                     : Json{{"version", libc_text(*heap)},
                                            {"located_by", located_text(*heap)},
                                            {"layout", heap->layout_version},
                                            {"layout_source", heap->layout_source}};
  answer["mapped_bytes"] = incident.ledger.mapped_bytes;
  answer["explained_bytes"] = incident.explained_bytes;
  answer["not_dumped_bytes"] = incident.not_dumped_bytes;
  const Census* census = incident.census();
  const bool has_lists = census != nullptr && !process.python.free_threaded;
  answer["collector_lists_agree"] = has_lists ? Json(census->rings_whole) : Json(nullptr);
  answer["cannot_tell"] = Json::array();
  for (const char* limit : kReportLimits) answer["cannot_tell"].push_back(limit);
  return answer;
}

}  // namespace

Json report_json(const Process& process, const Incident& incident, std::size_t limit) {
  Json answer;
  answer["findings"] = diagnoses_json(incident.diagnoses);
  answer["ledger"] = ledger_json(incident.ledger);
  const bool python = incident.holders.has_value();
  answer["retained"] = python ? retained_json(incident.retained) : Json(nullptr);
  answer["types"] =
      python ? types_json(type_rows(*incident.census(), GroupBy::kType, SortBy::kBytes, false), limit) : Json(nullptr);
  answer["map"] = incident.map.allocators.empty() ? Json(nullptr) : map_json(incident.map, {}, 0);
  answer["pins"] = incident.pins ? pins_json(*incident.pins) : Json(nullptr);
  answer["waste"] = incident.waste ? waste_json(*incident.waste) : Json(nullptr);
  answer["cycles"] = python ? cycles_json(incident.cycles) : Json(nullptr);
  answer["audit"] = python ? audit_json(incident.audit) : Json(nullptr);
  answer["threads"] = python ? threads_json(incident.threads) : Json(nullptr);
  answer["pymalloc"] = incident.obmalloc ? pymalloc_json(*incident.obmalloc) : Json(nullptr);
  answer["malloc"] = process.heap() == nullptr ? Json(nullptr) : malloc_json(*process.heap());
  answer["malloc_owners"] = incident.malloc_owners ? owners_json(*incident.malloc_owners) : Json(nullptr);
  answer["native"] = incident.native ? native_json(*incident.native) : Json(nullptr);
  answer["confidence"] = confidence_json(process, incident);
  return answer;
}

}  // namespace heapcore
