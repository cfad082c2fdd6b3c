#include "coreparse/resident.h"

#include <string>
#include <utility>

#include "coreparse/live_proc.h"
#include "coreparse/live_target.h"

namespace heapcore {

struct ResidentWatch::Held {
  live::ProcDir proc;
};

ResidentWatch::ResidentWatch(std::unique_ptr<Held> held) : held_(std::move(held)) {}
ResidentWatch::~ResidentWatch() = default;
ResidentWatch::ResidentWatch(ResidentWatch&&) noexcept = default;
ResidentWatch& ResidentWatch::operator=(ResidentWatch&&) noexcept = default;

Result<ResidentWatch> ResidentWatch::open(std::int32_t pid) {
  Result<live::ProcDir> proc = live::find_target(pid, false);
  if (!proc) return proc.error();
  return ResidentWatch(std::make_unique<Held>(Held{std::move(*proc)}));
}

std::optional<std::uint64_t> ResidentWatch::rss_bytes() const {
  const std::int32_t tid = held_->proc.living_thread();
  const std::optional<live::TaskStatus> status = tid == 0 ? std::nullopt : held_->proc.status(tid);
  return status ? std::optional(status->rss_bytes) : std::nullopt;
}

}  // namespace heapcore
