// The answer of `trace` as text and as JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "analysis/trace.h"
#include "report/answers.h"

namespace heapcore {

// "lineno", "filename", "traceback": tracemalloc's own words.
const char* trace_by_name(TraceBy by);

nlohmann::ordered_json trace_json(const TraceAnswer& answer, const TraceOptions& options);
std::string trace_text(const TraceAnswer& answer, const TraceOptions& options, const TextStyle& style);

}  // namespace heapcore
