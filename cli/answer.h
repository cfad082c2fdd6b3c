// What a command has to say, in both forms.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace heapcore {

struct Answer {
  nlohmann::ordered_json json;
  std::string text;
};

}  // namespace heapcore
