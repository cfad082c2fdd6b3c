#include <fmt/format.h>

#include "report/format.h"
#include "report/json_parts.h"
#include "report/text_parts.h"
#include "report/trace_answers.h"

namespace heapcore {
namespace {

constexpr std::size_t kTypesShown = 2;

Json counted_json(const CountBytes& total) {
  return {{"count", total.count}, {"bytes", total.bytes}};
}

std::string place_text(const TracePlace& place) {
  return place.line == 0 ? printable(place.file) : fmt::format("{}:{}", printable(place.file), place.line);
}

std::string grown_text(const TraceSite& site) {
  if (site.total.bytes >= site.older.bytes) return "+" + bytes_text(site.total.bytes - site.older.bytes);
  return "-" + bytes_text(site.older.bytes - site.total.bytes);
}

std::string types_text(const TraceSite& site) {
  std::string text;
  for (std::size_t i = 0; i < std::min(site.types.size(), kTypesShown); ++i) {
    text += fmt::format("{}{} {}", i == 0 ? "" : ", ", count_text(site.types[i].total.count),
                        printable(site.types[i].type));
  }
  return site.types.size() > kTypesShown ? text + ", ..." : text;
}

Json site_json(const TraceSite& site, bool compared) {
  Json frames = Json::array();
  for (const TracePlace& place : site.frames) {
    frames.push_back({{"filename", place.file}});
    if (place.line != 0) frames.back()["lineno"] = place.line;
  }
  Json types = Json::array();
  for (const TraceType& type : site.types) {
    types.push_back({{"type", type.type}, {"count", type.total.count}, {"bytes", type.total.bytes}});
  }
  Json out = {{"frames", std::move(frames)}, {"count", site.total.count}, {"bytes", site.total.bytes}};
  if (compared) out["older"] = counted_json(site.older);
  out["retained_bytes"] = site.retained_bytes;
  out["types"] = std::move(types);
  out["largest"] = site.largest == 0 ? Json() : Json(address_text(site.largest));
  out["path"] = site.path;
  return out;
}

constexpr const char* kHowToTurnOn =
    "start Python with -X tracemalloc=10 or PYTHONTRACEMALLOC=10, or call tracemalloc.start(10): "
    "10 frames a block; it costs time and memory\n";

std::string head_text(const TraceAnswer& answer) {
  std::string text = fmt::format("tracing with {}: {} blocks of {} in use",
                                 answer.most_frames ? fmt::format("{} frames", *answer.most_frames) : "unknown depth",
                                 count_text(answer.traced.count), bytes_text(answer.traced.bytes));
  if (answer.peak_bytes) text += fmt::format(", {} at the peak", bytes_text(*answer.peak_bytes));
  if (answer.matched != answer.traced) {
    text += fmt::format("; the filters leave {} blocks of {}", count_text(answer.matched.count),
                        bytes_text(answer.matched.bytes));
  }
  return text + "\n";
}

std::string rows_text(const TraceAnswer& answer, bool tracebacks) {
  std::vector<std::pair<std::string, Align>> columns{{"bytes", Align::kRight}, {"blocks", Align::kRight}};
  if (answer.compared) columns.insert(columns.begin(), {"grown", Align::kRight});
  columns.insert(columns.end(),
                 {{"retained", Align::kRight},
                  {tracebacks ? "allocated by, the most recent call first" : "allocated by", Align::kLeft},
                  {"what lies there", Align::kLeft},
                  {"the largest held by", Align::kLeft}});
  TextTable table(columns);
  for (const TraceSite& site : answer.sites) {
    std::vector<std::string> cells{bytes_text(site.total.bytes), count_text(site.total.count)};
    if (answer.compared) cells.insert(cells.begin(), grown_text(site));
    cells.insert(cells.end(), {bytes_text(site.retained_bytes), place_text(site.frames.front()), types_text(site),
                               printable(site.path)});
    table.add(cells);
    for (std::size_t i = 1; i < site.frames.size(); ++i) {
      std::vector<std::string> more(columns.size());
      more[columns.size() - 3] = place_text(site.frames[i]);
      table.add(more);
    }
  }
  return table.text("  ");
}

}  // namespace

const char* trace_by_name(TraceBy by) {
  switch (by) {
    case TraceBy::kLine:
      return "lineno";
    case TraceBy::kFile:
      return "filename";
    case TraceBy::kTraceback:
      return "traceback";
  }
  return "";
}

Json trace_json(const TraceAnswer& answer, const TraceOptions& options) {
  Json sites = Json::array();
  for (const TraceSite& site : answer.sites) sites.push_back(site_json(site, answer.compared));
  Json out = {{"tracing", answer.tracing},
              {"located_by", text_or_null(answer.located_by)},
              {"max_frames", answer.most_frames ? Json(*answer.most_frames) : Json()},
              {"peak_bytes", answer.peak_bytes ? Json(*answer.peak_bytes) : Json()},
              {"group_by", trace_by_name(options.by)},
              {"sites", std::move(sites)},
              {"sites_count", answer.sites_count},
              {"matched", counted_json(answer.matched)}};
  if (answer.compared) out["older"] = counted_json(answer.older);
  out["total"] = counted_json(answer.traced);
  return out;
}

std::string trace_text(const TraceAnswer& answer, const TraceOptions& options, const TextStyle& /*style*/) {
  if (!answer.found) return fmt::format("tracemalloc's tables were not found\nif tracing was off: {}", kHowToTurnOn);
  if (!answer.tracing)
    return fmt::format("tracemalloc was not tracing, so nothing says what was allocated where\n{}", kHowToTurnOn);
  std::string text = head_text(answer) + "\n" + rows_text(answer, options.by == TraceBy::kTraceback);
  if (answer.sites.size() < answer.sites_count) {
    text += fmt::format("  ({} more; --limit 0 shows all)\n", count_text(answer.sites_count - answer.sites.size()));
  }
  return text;
}

}  // namespace heapcore
