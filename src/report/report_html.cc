#include <algorithm>

#include "report/format.h"
#include "report/holder_answers.h"
#include "report/json_parts.h"
#include "report/page.h"
#include "report/report_answers.h"

namespace heapcore {
namespace {

// What is longer than a page can show, or a person read.
constexpr std::size_t kMostTypes = 4000;
constexpr std::size_t kMostThreads = 200;
constexpr std::size_t kMostTasks = 500;
constexpr std::size_t kMostFrames = 60;  // of one thread, the innermost
constexpr std::uint64_t kLeastLocalBytes = 1024;

// Cuts a list; what is left out is counted under "left_out" beside it.
void cut(Json& section, const char* key, std::size_t most) {
  if (section.is_null() || section[key].size() <= most) return;
  Json& list = section[key];
  const std::size_t left_out = list.size() - most;
  list.erase(list.begin() + static_cast<std::ptrdiff_t>(most), list.end());
  section["left_out"] = left_out;
}

void cut_threads(Json& threads) {
  if (threads.is_null()) return;
  threads["tasks_count"] = threads["tasks"].size();
  if (threads["tasks"].size() > kMostTasks)
    threads["tasks"].erase(threads["tasks"].begin() + kMostTasks, threads["tasks"].end());
  cut(threads, "threads", kMostThreads);
  for (Json& thread : threads["threads"]) {
    std::uint64_t retained_bytes = 0;
    for (Json& frame : thread["frames"]) {
      if (!frame.contains("locals")) continue;
      retained_bytes += frame["retained_bytes"].get<std::uint64_t>();
      Json& locals = frame["locals"];
      locals.erase(std::remove_if(locals.begin(), locals.end(),
                                  [](const Json& local) {
                                    return !local["held_here_only"].get<bool>() ||
                                           local["retained_bytes"].get<std::uint64_t>() < kLeastLocalBytes;
                                  }),
                   locals.end());
    }
    thread["retained_bytes"] = retained_bytes;
    cut(thread, "frames", kMostFrames);
  }
}

// A row for each node, as the page reads them.
Json ownership_json(const std::vector<OwnershipNode>& nodes) {
  Json rows = Json::array();
  for (const OwnershipNode& node : nodes) {
    rows.push_back(
        Json::array({node.parent, node.type, node.edge, node.address == 0 ? std::string() : address_text(node.address),
                     node.count, node.bytes, node.retained_bytes}));
  }
  return rows;
}

// JSON in which nothing can end the element that it stands in.
std::string harmless_in_html(const std::string& json) {
  std::string text;
  text.reserve(json.size() + json.size() / 64);
  for (const char c : json) {
    if (c == '<') {
      text += "\\u003c";
    } else {
      text += c;
    }
  }
  return text;
}

}  // namespace

std::string report_html(const Process& process, const Incident& incident) {
  Json document = document_head("report", process);
  document.update(report_json(process, incident, 0));
  cut(document["types"], "types", kMostTypes);
  cut_threads(document["threads"]);
  if (!document["pymalloc"].is_null()) document["pymalloc"].erase("arenas");
  if (!document["malloc"].is_null()) document["malloc"].erase("tcaches");
  document["ownership"] = ownership_json(incident.ownership);
  std::string page(page_before_data());
  page += harmless_in_html(document.dump(-1, ' ', false, Json::error_handler_t::replace));
  page += page_after_data();
  return page;
}

}  // namespace heapcore
