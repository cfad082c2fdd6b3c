#include "coreparse/residency.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "coreparse/live_proc.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kPresent = std::uint64_t{1} << 63;
constexpr std::uint64_t kSwapped = std::uint64_t{1} << 62;
constexpr std::size_t kEntriesAtOnce = 65536;

Error gone(std::int32_t pid, const std::string& what) {
  return {ErrorCode::kProcessGone, fmt::format("which pages of process {} are resident cannot be told: {}", pid, what),
          ""};
}

void extend(std::vector<AddrRange>& runs, Addr page, std::uint64_t page_bytes) {
  if (!runs.empty() && runs.back().end == page) {
    runs.back().end += page_bytes;
  } else {
    runs.push_back({page, page + page_bytes});
  }
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
  const live::Fd pagemap(::open(fmt::format("/proc/{}/pagemap", pid).c_str(), O_RDONLY | O_CLOEXEC));
  if (!pagemap) return gone(pid, errno_text(errno));
  Residency residency;
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);) {
    if (!read_kib(line, "VmRSS:", residency.rss_bytes_)) read_kib(line, "VmSwap:", residency.swap_bytes_);
  }
  const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  std::vector<std::uint64_t> entries(kEntriesAtOnce);
  for (const Mapping& mapping : snapshot.mappings) {
    for (Addr at = mapping.start; at < mapping.end;) {
      const std::size_t count = std::min<std::uint64_t>(kEntriesAtOnce, (mapping.end - at) / page_bytes);
      const ssize_t got = ::pread(pagemap.get(), entries.data(), count * sizeof entries[0],
                                  static_cast<off_t>(at / page_bytes * sizeof entries[0]));
      if (count == 0 || got <= 0) break;  // what the kernel keeps for itself, such as [vsyscall]
      const std::size_t read = static_cast<std::size_t>(got) / sizeof entries[0];
      for (std::size_t i = 0; i < read; ++i, at += page_bytes) {
        if ((entries[i] & kPresent) != 0) extend(residency.resident_, at, page_bytes);
        if ((entries[i] & kSwapped) != 0) extend(residency.swapped_, at, page_bytes);
      }
      if (read == 0) break;
    }
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
