// The module of built-in types, which answers leave out of a type's name: "builtins", in 2.7 "__builtin__".
#pragma once

#include <string_view>

namespace heapcore {

inline constexpr std::string_view kBuiltinsModules[] = {"builtins", "__builtin__"};

inline bool is_builtins(std::string_view module) {
  return module == kBuiltinsModules[0] || module == kBuiltinsModules[1];
}

// "dict" of "builtins.dict"; other types as they are.
inline std::string_view without_builtins(std::string_view type) {
  for (const std::string_view module : kBuiltinsModules) {
    if (type.starts_with(module) && type.substr(module.size()).starts_with('.')) return type.substr(module.size() + 1);
  }
  return type;
}

}  // namespace heapcore
