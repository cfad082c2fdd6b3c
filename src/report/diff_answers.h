// The answer of `diff` as text and as JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "analysis/diff.h"
#include "report/answers.h"

namespace heapcore {

nlohmann::ordered_json diff_json(const Diff& diff, const Process& older);
std::string diff_text(const Diff& diff, const Process& older, const TextStyle& style);

}  // namespace heapcore
