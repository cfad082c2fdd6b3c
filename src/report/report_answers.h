// The incident report: one value, rendered three ways.
//
// Key `findings` and one key for each section, in JSON, are a contract: docs/report.schema.json. A section that there
// is nothing to say of (no Python, no glibc) is null there, and left out elsewhere.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "analysis/incident.h"
#include "analysis/process.h"
#include "report/answers.h"

namespace heapcore {

// limit: of the rows of types; 0 for all.
nlohmann::ordered_json report_json(const Process& process, const Incident& incident, std::size_t limit);

// What a person reads in two minutes; the details have commands of their own.
std::string report_text(const Process& process, const Incident& incident, const TextStyle& style);

// One file that needs nothing else. Draws incident.ownership as well.
std::string report_html(const Process& process, const Incident& incident);

}  // namespace heapcore
