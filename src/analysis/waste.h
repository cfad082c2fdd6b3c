// Memory that the same contents would do without: strings with equal contents, containers with far more room than
// entries, numbers in boxes where an array would hold them, attributes in dicts where slots would.
//
// wasted_bytes is what the program would have less of, had it the better form:
//   duplicate strings   all copies but one (str and bytes, not of subclasses)
//   instance dicts      the dict of an instance, less 8 bytes an attribute: what __slots__ would take. Where the
//                       interpreter keeps attributes without a dict (3.11+), only dicts that something made it make
//   empty containers    list, dict, set and bytearray without contents, with all they have allocated
//   sparse containers   dicts of which less than a quarter of the entries is in use, sets less than an eighth of the
//                       slots: what a fresh copy would not have
//   spare room          of lists and bytearrays beyond their length
//   boxed numbers       floats and ints in a list, tuple or dict of many, that nothing else holds: in an array of 8
//                       bytes each they would be where the pointers are now
//
// The total counts nothing twice: an object is in at most one row, since the kinds part by type, and a dict or
// container that could be in several is in the first of the list above; and a row counts of each object what is its
// own.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "analysis/heap_graph.h"
#include "analysis/process.h"
#include "support/finding.h"

namespace heapcore {

enum class WasteKind : std::uint8_t {
  kDuplicateStrings,
  kInstanceDicts,
  kEmptyContainers,
  kSparseContainers,
  kSpareRoom,
  kBoxedNumbers,
};
inline constexpr std::size_t kWasteKinds = 6;

// "duplicate_strings".
std::string_view waste_kind_name(WasteKind kind);

struct WasteFigures {
  std::uint64_t count = 0;         // of objects
  std::uint64_t bytes = 0;         // sys.getsizeof of them
  std::uint64_t wasted_bytes = 0;  // of those

  WasteFigures& operator+=(const WasteFigures& other) {
    count += other.count;
    bytes += other.bytes;
    wasted_bytes += other.wasted_bytes;
    return *this;
  }
};

// What objects of one type waste in one way, held by instances of one class.
struct WasteRow {
  WasteKind kind = WasteKind::kDuplicateStrings;
  std::string type;  // of what is wasted; of instance dicts the class of the instances, of boxed numbers the numbers'
  std::string held_by;  // the class, module or container that holds them; empty: several, or nothing found
  WasteFigures figures;
  std::string path;           // by which the first of `objects` is held
  std::vector<Addr> objects;  // a few that waste most; of boxed numbers their containers
};

// Strings of one content.
struct DuplicateString {
  std::string type;
  std::uint64_t length = 0;  // in characters
  std::string text;          // only with values; cut short
  WasteFigures figures;
  std::string held_by;        // of the first
  std::string path;           // likewise
  std::vector<Addr> objects;  // a few of them, the lowest addresses
};

struct WasteAnswer {
  std::vector<WasteRow> waste;  // what wastes most first
  std::uint64_t waste_count = 0;
  std::vector<DuplicateString> strings;  // likewise
  std::uint64_t strings_count = 0;
  std::array<WasteFigures, kWasteKinds> by_kind{};
  WasteFigures total;
};

struct WasteOptions {
  std::size_t limit = 20;            // of each list; 0 for no limit
  std::size_t objects_limit = 4;     // addresses of each; 0 for no limit
  std::uint64_t least_copies = 10;   // of a string; fewer count too if they waste
  std::uint64_t least_bytes = 4096;  // so much
  std::uint64_t least_numbers = 16;  // in one container
  bool values = false;
};

// REQUIRES: process.runtime() != nullptr.
WasteAnswer find_waste(const Process& process, const HeapGraph& graph, const WasteOptions& options, Findings& findings);

}  // namespace heapcore
