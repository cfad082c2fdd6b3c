// Sizes on the command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace heapcore {

// "2G", "1.5GiB", "4096": K, M, G, T are powers of 1024.
std::optional<std::uint64_t> parse_size(std::string_view text);

}  // namespace heapcore
