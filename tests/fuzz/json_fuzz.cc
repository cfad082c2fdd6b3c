// Any bytes as what a target may call its types, modules, threads and files, written as JSON, HTML and text. What is
// promised: the JSON is JSON, nothing ends the element that it stands in, and no name moves a terminal's cursor.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "analysis/incident.h"
#include "report/answers.h"
#include "report/report_answers.h"
#include "report/show_answers.h"
#include "target.h"

using namespace heapcore;

namespace {

using Json = nlohmann::ordered_json;

void check_text(const std::string& text) {
  for (const char c : text) {
    fuzz::promise(c == '\n' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f),
                  "text holds no control characters");
  }
}

void check_json(const Process& process, const char* command, const Json& answer) {
  Json document = document_head(command, process);
  document.update(answer);
  const std::string text = document.dump(2, ' ', false, Json::error_handler_t::replace);
  fuzz::promise(Json::accept(text), "a document is JSON");
}

}  // namespace

HEAPCORE_FUZZ_TARGET(json, const fuzz::Bytes input) {
  const std::string all(reinterpret_cast<const char*>(input.data()), input.size());
  // Three names, parted by NULs.
  const std::string first = all.substr(0, all.find('\0'));
  const std::string rest = first.size() < all.size() ? all.substr(first.size() + 1) : "x";
  const std::string second = rest.substr(0, rest.find('\0'));
  Process process;
  process.snapshot.info.path = second;
  process.snapshot.info.executable = first;
  process.snapshot.info.command = second;
  process.snapshot.mappings.push_back({0x1000, 0x2000, 0, "/" + first, true, true, false, false, 0});
  process.findings.add({"object-damaged", Room::kPyobj, 0x1000, first});
  TypeRows rows;
  rows.rows.push_back({0x1000, first, second, 0, 0, {1, 2}});
  check_json(process, "types", types_json(rows, 0));
  check_text(types_text(rows, {}));
  check_text(warnings_text(process.findings));
  Sight sight;
  sight.address = 0x1000;
  sight.mapping = &process.snapshot.mappings.front();
  sight.symbol = second;
  sight.object = SeenObject{};
  sight.object->type = first;
  sight.object->value.text = second;
  sight.object->value.fields.push_back({"file", second, 0x1000, 0});
  sight.object->value.items.push_back({second, first, 0, 0});
  check_json(process, "show", show_json(process, {sight}));
  check_text(show_text(process, {sight}, {}));
  Incident incident;
  LedgerRow row;
  row.category = "file";
  row.detail = second;
  row.bytes = 4096;
  incident.ledger.rows.push_back(std::move(row));
  incident.threads.threads.push_back({});
  incident.threads.threads.back().name = first;
  incident.threads.threads.back().frames.push_back({});
  incident.threads.threads.back().frames.back().function = second;
  incident.threads.threads.back().frames.back().file = first;
  incident.diagnoses.push_back({});
  incident.diagnoses.back().title = first;
  check_json(process, "report", report_json(process, incident, 0));
  check_text(report_text(process, incident, {}));
  const std::string page = report_html(process, incident);
  static const std::string empty_page = report_html(Process(), Incident());
  const auto tags = [](const std::string& html) { return std::count(html.begin(), html.end(), '<'); };
  fuzz::promise(tags(page) == tags(empty_page), "no name makes an element of the page");
}
