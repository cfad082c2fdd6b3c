// The answer of `refs ADDR` as text and as JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "analysis/refs.h"
#include "report/answers.h"

namespace heapcore {

nlohmann::ordered_json refs_json(const std::vector<ReferencesOf>& answers);
std::string refs_text(const std::vector<ReferencesOf>& answers, const TextStyle& style);

}  // namespace heapcore
