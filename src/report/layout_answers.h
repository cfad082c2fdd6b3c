// The answer of `verify --layouts` as text and as JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "analysis/layouts.h"
#include "report/answers.h"

namespace heapcore {

nlohmann::ordered_json layouts_json(const std::vector<LayoutRow>& rows);
std::string layouts_text(const std::vector<LayoutRow>& rows, const TextStyle& style);

}  // namespace heapcore
