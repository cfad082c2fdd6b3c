// `report --fail-if EXPR`: conditions under which the report ends with a status of its own, for automation.
//
//   finding=SEVERITY   a finding at least as severe: low, medium, high
//   finding=CODE       a finding of this code
//   FIGURE>SIZE        a figure of the report is larger: 2G, 500M, 1.5GiB, 4096
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "analysis/incident.h"
#include "analysis/process.h"
#include "support/result.h"

namespace heapcore {

struct Condition {
  std::string text;    // as it was given
  std::string figure;  // "finding", "retained" ...
  std::string word;    // of a finding: what is looked for
  std::uint64_t bytes = 0;
};

Result<Condition> parse_condition(const std::string& text);

// What makes it true, in a sentence; nothing if it is not. An Error where the target does not say.
Result<std::optional<std::string>> why_true(const Condition& condition, const Process& process,
                                            const Incident& incident);

}  // namespace heapcore
