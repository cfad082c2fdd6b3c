// The answers of the commands about holders as text and as JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "analysis/audit.h"
#include "analysis/cycles.h"
#include "analysis/holders.h"
#include "analysis/merged_paths.h"
#include "analysis/threads.h"
#include "report/answers.h"

namespace heapcore {

nlohmann::ordered_json retained_json(const RetainedAnswer& answer);
std::string retained_text(const RetainedAnswer& answer, const TextStyle& style);

nlohmann::ordered_json cycles_json(const CyclesAnswer& answer);
std::string cycles_text(const CyclesAnswer& answer, const TextStyle& style);

nlohmann::ordered_json paths_json(const PathsAnswer& answer, const HeapGraph& graph);
std::string paths_text(const PathsAnswer& answer, const TextStyle& style);
// In Graphviz's language.
std::string paths_dot(const PathsAnswer& answer, const HeapGraph& graph);
nlohmann::ordered_json threads_json(const ThreadsAnswer& answer);
std::string threads_text(const ThreadsAnswer& answer, const TextStyle& style);

nlohmann::ordered_json audit_json(const AuditAnswer& answer);
std::string audit_text(const AuditAnswer& answer, const TextStyle& style);

}  // namespace heapcore
