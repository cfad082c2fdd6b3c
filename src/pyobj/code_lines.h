// Which line of its file an instruction is of.
//
// Formats (Objects/lnotab_notes.txt, Objects/locations.md): to 3.9 co_lnotab, pairs of how many bytes of code and how
// many lines further, the lines unsigned in 2.7; 3.10 co_linetable of the same pairs, each for its own range of code;
// from 3.11 on the location table, an entry of 1 to 16 bytes for a run of instructions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace heapcore {

enum class LineTable : std::uint8_t { kUnsignedLnotab, kLnotab, kPairs, kLocations };

// The line of the instruction at this offset in bytes. A negative offset is before the first instruction, whose line is
// the function's own. 0 where the table gives none.
int line_at(LineTable form, std::span<const std::byte> table, int first_line, std::int64_t offset);

}  // namespace heapcore
