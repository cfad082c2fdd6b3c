#include "coreparse/residency.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <optional>
#include <sstream>

#include "coreparse/live_proc.h"

namespace heapcore {
namespace {

Error gone(std::int32_t pid, const std::string& what) {
  return {ErrorCode::kProcessGone, fmt::format("which pages of process {} are resident cannot be told: {}", pid, what),
          ""};
}

// Of a line "VmRSS:     1234 kB".
bool read_kib(const std::string& line, std::string_view name, std::uint64_t& bytes) {
  if (!line.starts_with(name)) return false;
  std::istringstream rest(line.substr(name.size()));
  std::uint64_t kib = 0;
  if (rest >> kib) bytes = kib * 1024;
  return true;
}

}  // namespace

Result<Residency> Residency::read(const Snapshot& snapshot) {
  const std::int32_t pid = snapshot.info.pid;
  if (snapshot.info.kind != TargetKind::kProcess || pid == 0) return gone(pid, "this is no live process");
  const std::optional<live::ProcDir> proc = live::ProcDir::open(pid);
  if (!proc) return gone(pid, errno_text(errno));
  const live::PageMap pages(*proc, proc->living_thread());
  if (pages.unavailable()) return gone(pid, "there is no page map to read");
  Residency residency;
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);) {
    if (!read_kib(line, "VmRSS:", residency.rss_bytes_)) read_kib(line, "VmSwap:", residency.swap_bytes_);
  }
  // What the kernel keeps for itself, such as [vsyscall], has no pages.
  for (const Mapping& mapping : snapshot.mappings) {
    pages.find({mapping.start, mapping.end}, live::PageMap::Want::kInMemory, residency.resident_);
    pages.find({mapping.start, mapping.end}, live::PageMap::Want::kHeld, residency.held_);
  }
  return residency;
}

std::uint64_t Residency::overlap(const std::vector<AddrRange>& runs, const AddrRange& range) {
  auto at = std::upper_bound(runs.begin(), runs.end(), range.start,
                             [](Addr address, const AddrRange& run) { return address < run.end; });
  std::uint64_t bytes = 0;
  for (; at != runs.end() && at->start < range.end; ++at)
    bytes += std::min(at->end, range.end) - std::max(at->start, range.start);
  return bytes;
}

}  // namespace heapcore
