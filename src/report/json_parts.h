// What the renderers of JSON share. Private to report.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace heapcore {

using Json = nlohmann::ordered_json;

inline Json text_or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

template <typename Counted>
Json count_bytes(const Counted& value) {
  return {{"count", value.count}, {"bytes", value.bytes}};
}

}  // namespace heapcore
