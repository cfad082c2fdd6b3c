// Figures, addresses and names of the target's as people read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace heapcore {

// "1.50 GiB", "812 B": powers of 1024, three figures or all there are before the point.
std::string bytes_text(std::uint64_t bytes);
// "12,345,678".
std::string count_text(std::uint64_t count);
// "1 arena", "4,000 arenas".
std::string counted(std::uint64_t count, std::string_view noun);
// "12.3 %"; "-" of nothing.
std::string percent_text(std::uint64_t part, std::uint64_t whole);
// "0x7f3a10".
std::string address_text(std::uint64_t address);
// Text from the target made fit for a terminal: control characters and what is no UTF-8 become \xNN, so that a hostile
// name moves no cursor.
std::string printable(std::string_view text);

}  // namespace heapcore
