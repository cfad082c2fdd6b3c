// An ELF core's program headers and notes, turned into segments and mappings. Private to coreparse.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "coreparse/notes.h"
#include "coreparse/snapshot.h"

namespace heapcore {

// "aarch64", for messages, of ELF's e_machine.
std::string_view machine_name(std::uint16_t machine);

struct CoreHeaders {
  std::uint16_t machine = 0;
  std::vector<Segment> segments;  // of PT_LOADs, in file order; not yet disjoint
  std::vector<Mapping> mappings;  // of PT_LOADs, likewise
  CoreNotes notes;
};

// `path` is for messages. Refuses what is not a 64-bit little-endian x86-64 core; names what it is instead.
Result<CoreHeaders> read_core_headers(std::span<const std::byte> file, const std::string& path, Findings& findings);

}  // namespace heapcore
