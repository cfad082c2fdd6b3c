// The answers of `retained` as text and as JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "analysis/holders.h"
#include "report/answers.h"

namespace heapcore {

nlohmann::ordered_json retained_json(const RetainedAnswer& answer);
std::string retained_text(const RetainedAnswer& answer, const TextStyle& style);

}  // namespace heapcore
