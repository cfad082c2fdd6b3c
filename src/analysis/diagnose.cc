#include "analysis/diagnose.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <tuple>

#include "analysis/diagnosis_rules.h"
#include "pyobj/builtins_names.h"
#include "support/units.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kLeastBytes = 8 << 20;
constexpr std::uint64_t kLeastHighBytes = 16 << 20;
// Of the process's own memory, in per cent: what MAT calls a suspect, and what the process is mostly about.
constexpr std::uint64_t kSuspectPercent = 10;
constexpr std::uint64_t kHighPercent = 20;

// In these rows of the ledger is no memory of the process's own making.
constexpr std::string_view kNotOwn[] = {"file",  "shared file",     "shared memory",    "kernel",
                                        "stack", "malloc reserved", "mimalloc reserved"};

// "builtins.dict" is "dict" to whoever reads.
void drop_builtins(std::string& text) {
  for (const std::string_view module : kBuiltinsModules) {
    const std::string prefix = std::string(module) + '.';
    for (std::size_t at = 0; (at = text.find(prefix, at)) != std::string::npos;) {
      if (at == 0 || text[at - 1] == ' ') {
        text.erase(at, prefix.size());
      } else {
        at += prefix.size();
      }
    }
  }
}

}  // namespace

const char* severity_name(Severity severity) {
  switch (severity) {
    case Severity::kLow:
      return "low";
    case Severity::kMedium:
      return "medium";
    case Severity::kHigh:
      return "high";
  }
  return "";
}

Rules::Rules(const Process& process, const Incident& incident, const IncidentOptions& options)
    : process_(process), incident_(incident), options_(options) {
  for (const LedgerRow& row : incident.ledger.rows) {
    if (std::find(std::begin(kNotOwn), std::end(kNotOwn), row.category) == std::end(kNotOwn)) own_bytes_ += row.bytes;
  }
}

std::vector<Diagnosis> Rules::run() {
  if (incident_.holders) {
    holders();
    uncollected_cycles();
    lost_references();
    task_pileup();
    if (incident_.waste) waste();
  }
  if (incident_.obmalloc) sparse_arenas();
  if (process_.heap() != nullptr) {
    untrimmed_malloc();
    scattered_malloc();
    if (incident_.holders) native_growth();
  }
  std::stable_sort(found_.begin(), found_.end(), [](const Diagnosis& a, const Diagnosis& b) {
    return std::tuple(a.severity, a.bytes) > std::tuple(b.severity, b.bytes);
  });
  for (Diagnosis& found : found_) {
    drop_builtins(found.title);
    drop_builtins(found.advice);
    for (std::string& line : found.evidence) drop_builtins(line);
  }
  return std::move(found_);
}

std::uint64_t Rules::least_bytes() const {
  return std::max(kLeastBytes, own_bytes_ / 100 * kSuspectPercent);
}

Severity Rules::severity(std::uint64_t bytes) const {
  return bytes >= std::max(kLeastHighBytes, own_bytes_ / 100 * kHighPercent) ? Severity::kHigh : Severity::kMedium;
}

std::string Rules::share(std::uint64_t bytes) const {
  return fmt::format("{} ({} of the process's own memory)", bytes_text(bytes), percent_text(bytes, own_bytes_));
}

Diagnosis& Rules::add(std::string_view code, Severity severity, std::uint64_t bytes, std::string title) {
  found_.push_back({std::string(code), severity, std::move(title), bytes, {}, {}, {}});
  return found_.back();
}

std::vector<Diagnosis> diagnose(const Process& process, const Incident& incident, const IncidentOptions& options) {
  return Rules(process, incident, options).run();
}

}  // namespace heapcore
