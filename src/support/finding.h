// A Finding is evidence: of damage in the target, of something missing from it, or of how something was found.
//
// Findings are what a walk returns instead of failing. They are bounded: of each code only the kKeptPerCode with the
// lowest addresses are kept whole, the rest are counted, so that a core with a million broken chunks costs no more than
// one with ten, and what is kept does not depend on how many threads walked.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "support/addr.h"

namespace heapcore {

enum class Room : std::uint8_t { kCoreparse, kGlibcHeap, kPyobj, kAnalysis };

std::string_view room_name(Room room);

struct Finding {
  std::string_view code;  // a literal, kebab-case and stable: "core-truncated", "chunk-bad-size"
  Room room = Room::kCoreparse;
  Addr address = 0;  // 0 where no single address is meant
  std::string detail;
  bool incomplete = true;  // parts are missing or damaged because of it (exit status 1); false: only worth knowing
};

class Findings {
 public:
  static constexpr std::uint64_t kKeptPerCode = 16;

  void add(Finding finding);
  // A note: worth knowing, but nothing is missing because of it.
  void note(std::string_view code, Room room, Addr address, std::string detail);
  // Appends another walk's findings, in its order.
  void merge(const Findings& other);

  const std::vector<Finding>& kept() const { return kept_; }
  // Puts what is kept in the order of room, code and address.
  void sort();
  // How often the code was added, kept or not.
  std::uint64_t count(std::string_view code) const;
  // Whether any was added for which parts are missing or damaged, kept or not.
  bool incomplete() const { return incomplete_; }

 private:
  struct Seen {
    std::string_view code;
    std::uint64_t times = 0;
  };

  std::uint64_t& counter(std::string_view code);

  std::vector<Finding> kept_;
  bool incomplete_ = false;
  std::vector<Seen> seen_;  // one entry a code; there are a few dozen codes in all
};

}  // namespace heapcore
