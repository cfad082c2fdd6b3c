// Where long work says how far it is. Rooms call it; only cli/ draws.
#pragma once

#include <cstdint>
#include <string_view>

namespace heapcore {

class Progress {
 public:
  virtual ~Progress() = default;

  // A pass begins; total is in the unit of the pass (bytes, mostly), 0 where it is not known.
  virtual void begin(std::string_view /*pass*/, std::uint64_t /*total*/) {}
  // May be called from any thread, often; must be cheap.
  virtual void advance(std::uint64_t /*amount*/) {}
  virtual void end() {}

  // A sink that says nothing.
  static Progress& none() {
    static Progress silent;
    return silent;
  }
};

}  // namespace heapcore
