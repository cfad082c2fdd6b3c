#include "fail_if.h"

#include <fmt/format.h>

#include <algorithm>

#include "report/format.h"
#include "size.h"

namespace heapcore {
namespace {

struct Figure {
  const char* name;
  const char* what;
  std::optional<std::uint64_t> (*of)(const Process&, const Incident&);
};

std::optional<std::uint64_t> resident(const Process&, const Incident& incident) {
  if (incident.ledger.resident.empty()) return std::nullopt;
  return incident.ledger.rss_bytes;
}

std::optional<std::uint64_t> free_bytes(const Process& process, const Incident& incident) {
  std::uint64_t bytes = incident.obmalloc ? incident.obmalloc->bytes_free : 0;
  if (const Heap* heap = process.heap()) {
    for (const Arena& arena : heap->arenas) bytes += arena.totals.free().bytes;
  }
  return bytes;
}

constexpr Figure kFigures[] = {
    {"retained", "what the largest holder retains",
     [](const Process&, const Incident& incident) -> std::optional<std::uint64_t> {
       return incident.retained.objects.empty() ? 0 : incident.retained.objects[0].retained_bytes;
     }},
    {"garbage", "what uncollected garbage holds",
     [](const Process&, const Incident& incident) -> std::optional<std::uint64_t> {
       return incident.cycles.garbage_retained_bytes;
     }},
    {"python", "what Python objects take",
     [](const Process&, const Incident& incident) -> std::optional<std::uint64_t> {
       return incident.holders ? incident.census()->total.bytes : 0;
     }},
    {"free", "what the allocators keep free", free_bytes},
    {"mapped", "what is mapped",
     [](const Process& process, const Incident&) -> std::optional<std::uint64_t> {
       return process.snapshot.mapped_bytes();
     }},
    {"rss", "what is resident", resident},
};

std::string allowed() {
  std::string names;
  for (const Figure& figure : kFigures) names += (names.empty() ? "" : ", ") + std::string(figure.name) + ">SIZE";
  return "allowed are " + names + " (such as retained>2G), finding=low, medium or high, and finding=CODE";
}

const Figure* find_figure(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(kFigures), std::end(kFigures), [&](const Figure& f) { return name == f.name; });
  return found == std::end(kFigures) ? nullptr : found;
}

std::optional<Severity> parse_severity(std::string_view word) {
  for (const Severity severity : {Severity::kLow, Severity::kMedium, Severity::kHigh}) {
    if (word == severity_name(severity)) return severity;
  }
  return std::nullopt;
}

}  // namespace

Result<Condition> parse_condition(const std::string& text) {
  const auto refused = [&](const std::string& why) {
    return Error{ErrorCode::kUsage, fmt::format("--fail-if \"{}\": {}", text, why), allowed()};
  };
  const std::size_t at = text.find_first_of("=>");
  if (at == std::string::npos) return refused("is no condition");
  Condition condition{text, text.substr(0, at), "", 0};
  const std::string value = text.substr(at + 1);
  if (condition.figure == "finding") {
    if (text[at] != '=') return refused("a finding is compared with =");
    const bool known = parse_severity(value) || std::any_of(std::begin(kDiagnosisCodes), std::end(kDiagnosisCodes),
                                                            [&](const char* code) { return value == code; });
    if (!known) {
      std::string codes;
      for (const char* code : kDiagnosisCodes) codes += (codes.empty() ? "" : ", ") + std::string(code);
      return Error{ErrorCode::kUsage, fmt::format("--fail-if \"{}\": there is no finding \"{}\"", text, value),
                   "it is low, medium, high or one of " + codes};
    }
    condition.word = value;
    return condition;
  }
  if (find_figure(condition.figure) == nullptr)
    return refused(fmt::format("there is no figure \"{}\"", condition.figure));
  if (text[at] != '>') return refused("a figure is compared with >");
  const std::optional<std::uint64_t> bytes = parse_size(value);
  if (!bytes) return refused(fmt::format("\"{}\" is no size, such as 2G, 500M or 4096", value));
  condition.bytes = *bytes;
  return condition;
}

Result<std::optional<std::string>> why_true(const Condition& condition, const Process& process,
                                            const Incident& incident) {
  using Reason = std::optional<std::string>;
  if (condition.figure == "finding") {
    const std::optional<Severity> least = parse_severity(condition.word);
    for (const Diagnosis& diagnosis : incident.diagnoses) {
      if (least ? diagnosis.severity < *least : diagnosis.code != condition.word) continue;
      return Reason(
          fmt::format("{} ({}): {}", diagnosis.code, severity_name(diagnosis.severity), printable(diagnosis.title)));
    }
    return Reason();
  }
  const Figure& figure = *find_figure(condition.figure);
  const std::optional<std::uint64_t> value = figure.of(process, incident);
  if (!value) {
    return Error{ErrorCode::kUsage,
                 fmt::format("--fail-if {}: this target does not say {}", condition.text, figure.what),
                 "a core holds no such figure, and a process only while it runs; mapped>SIZE can be asked of each"};
  }
  if (*value <= condition.bytes) return Reason();
  return Reason(fmt::format("{} is {}", figure.what, bytes_text(*value)));
}

}  // namespace heapcore
