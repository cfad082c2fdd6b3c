// The answers of the commands about wasted space as text and as JSON: `map`, `pins`, `waste`.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "analysis/fragmentation.h"
#include "analysis/pins.h"
#include "analysis/waste.h"
#include "report/answers.h"

namespace heapcore {

enum class MapOrder : std::uint8_t { kLive, kAddress };

struct MapStyle {
  MapOrder order = MapOrder::kLive;  // kLive: the sparsest first
  std::size_t width = 100;           // columns of the terminal
};

// "obmalloc", "mimalloc", "malloc".
const char* map_allocator_name(MapAllocator allocator);

// A cell as one character: 0 to 9 for its live share in tenths, of what is live at all; "." free, "-" never used,
// "t" top, "?" not dumped. The HTML report draws the same.
char map_cell_char(std::uint8_t cell);

// `limit`: arenas, in the order of the style; 0 for all.
nlohmann::ordered_json map_json(const FragmentationMap& map, const MapStyle& how, std::size_t limit);
std::string map_text(const FragmentationMap& map, const MapStyle& how, const TextStyle& style);

nlohmann::ordered_json pins_json(const PinsAnswer& answer);
std::string pins_text(const PinsAnswer& answer, const TextStyle& style);

nlohmann::ordered_json waste_json(const WasteAnswer& answer);
std::string waste_text(const WasteAnswer& answer, const TextStyle& style);

}  // namespace heapcore
