// The answers of `malloc --bins`, `--sizes`, `--chunks`, `malloc ADDR` and `verify` as text and as JSON. What `malloc`
// itself says is in answers.h.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "analysis/verify.h"
#include "glibc_heap/bins.h"
#include "glibc_heap/places.h"
#include "report/answers.h"

namespace heapcore {

nlohmann::ordered_json bins_json(const Heap& heap, const std::vector<SizeClass>& classes);
std::string bins_text(const Heap& heap, const std::vector<SizeClass>& classes);

// REQUIRES: `sizes` are of sizes_in_use().
nlohmann::ordered_json sizes_json(const std::vector<SizeClass>& sizes);
std::string sizes_text(const std::vector<SizeClass>& sizes);

nlohmann::ordered_json place_json(const Heap& heap, const Place& place);
nlohmann::ordered_json places_json(const Heap& heap, const std::vector<Place>& places);
// Lines of what a place is, without the address, each after `indent`.
std::string place_text(const Heap& heap, const Place& place, std::string_view indent);
std::string places_text(const Heap& heap, const std::vector<Place>& places);

// One row of the chunks of an arena, appended: millions of them are written, so nothing is made for one but its text.
void append_chunk_json(const Chunk& chunk, std::string& out);
void append_chunk_text(const Chunk& chunk, std::string& out);
std::string chunk_text_header();

nlohmann::ordered_json verify_json(const Verification& verification, const Process& process);
std::string verify_text(const Verification& verification, const Process& process, const TextStyle& style);

}  // namespace heapcore
