// How much of a live process is in memory, asked again and again of the same process.
//
// Source: /proc/PID/status (proc(5): VmRSS).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "support/result.h"

namespace heapcore {

class ResidentWatch {
 public:
  // Refuses what a capture would refuse, but for a process that is traced just now.
  static Result<ResidentWatch> open(std::int32_t pid);
  ~ResidentWatch();
  ResidentWatch(ResidentWatch&&) noexcept;
  ResidentWatch& operator=(ResidentWatch&&) noexcept;

  // Nothing once the process has ended.
  std::optional<std::uint64_t> rss_bytes() const;

 private:
  struct Held;  // keeps /proc/PID open, lest the pid be given to another

  explicit ResidentWatch(std::unique_ptr<Held> held);
  std::unique_ptr<Held> held_;
};

}  // namespace heapcore
