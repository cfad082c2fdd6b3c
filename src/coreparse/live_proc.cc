#include "coreparse/live_proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <memory>

namespace heapcore::live {
namespace {

constexpr Addr kKernelHalf = Addr{1} << 63;
constexpr std::uint64_t kKernelThreadFlag = 0x00200000;  // PF_KTHREAD, include/linux/sched.h

// linux/fs.h of Linux 6.7; Debian 12's headers are older than that.
struct ScanArgument {
  std::uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
  std::uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct ScanRegion {
  std::uint64_t start, end, categories;
};
constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanArgument);
constexpr std::uint64_t kPageIsFile = 1u << 2;
constexpr std::uint64_t kPageIsPresent = 1u << 3;
constexpr std::uint64_t kPageIsSwapped = 1u << 4;
constexpr std::uint64_t kPageIsZeroPage = 1u << 5;

// A word of /proc/PID/pagemap.
constexpr std::uint64_t kEntryFile = std::uint64_t{1} << 61;
constexpr std::uint64_t kEntrySwapped = std::uint64_t{1} << 62;
constexpr std::uint64_t kEntryPresent = std::uint64_t{1} << 63;

// Reads `fd` to its end or to max_bytes.
std::optional<std::string> read_all(int fd, std::size_t max_bytes) {
  std::string text;
  std::size_t used = 0;
  while (used < max_bytes) {
    text.resize(std::min(max_bytes, std::max<std::size_t>(4096, used * 2)));
    const ssize_t n = ::read(fd, text.data() + used, text.size() - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return std::nullopt;
    if (n == 0) break;
    used += static_cast<std::size_t>(n);
  }
  text.resize(used);
  return text;
}

std::optional<std::string> read_file(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return fd ? read_all(fd.get(), std::size_t{1} << 20) : std::nullopt;
}

template <typename T>
bool parse_number(std::string_view text, T& value, int base = 10) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc{} && end == text.data() + text.size();
}

// Takes the text up to the next blank, and any blanks behind it, off the front of `line`.
std::string_view next_word(std::string_view& line) {
  const std::size_t end = std::min(line.find_first_of(" \t"), line.size());
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(std::min(line.find_first_not_of(" \t", end), line.size()));
  return word;
}

// The first word behind "key" in a file of "key value" lines.
std::optional<std::uint64_t> value_of(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (next_word(line) != key) continue;
    std::uint64_t value = 0;
    if (parse_number(next_word(line), value)) return value;
    return std::nullopt;
  }
  return std::nullopt;
}

// The kernel writes a newline in a path as \012, and nothing else so.
std::string unescape_path(std::string_view text) {
  std::string path;
  while (!text.empty()) {
    const std::size_t at = text.find("\\012");
    path += text.substr(0, at);
    if (at == std::string_view::npos) break;
    path += '\n';
    text.remove_prefix(at + 4);
  }
  return path;
}

// "start-end rwxp offset major:minor inode      path"
bool parse_maps_line(std::string_view line, Mapping& mapping) {
  const std::string_view range = next_word(line);
  const std::size_t dash = range.find('-');
  const std::string_view permissions = next_word(line);
  const std::string_view offset = next_word(line);
  next_word(line);  // device
  next_word(line);  // inode
  if (dash == std::string_view::npos || permissions.size() != 4) return false;
  if (!parse_number(range.substr(0, dash), mapping.start, 16)) return false;
  if (!parse_number(range.substr(dash + 1), mapping.end, 16)) return false;
  if (!parse_number(offset, mapping.file_offset, 16)) return false;
  mapping.readable = permissions[0] == 'r';
  mapping.writable = permissions[1] == 'w';
  mapping.executable = permissions[2] == 'x';
  mapping.shared = permissions[3] == 's';
  mapping.path = unescape_path(line);
  return true;
}

// What is left in the version-2 control group that holds this process, or in one around it.
std::uint64_t cgroup_room() {
  std::uint64_t room = std::numeric_limits<std::uint64_t>::max();
  const std::optional<std::string> own = read_file("/proc/self/cgroup");
  const std::size_t at = own ? own->find("0::/") : std::string::npos;
  if (at == std::string::npos) return room;
  std::string path = own->substr(at + 3, own->find('\n', at) - at - 3);
  while (true) {
    const std::string directory = "/sys/fs/cgroup" + path + "/";
    std::uint64_t limit = 0;
    std::uint64_t used = 0;
    const auto number = [&](const char* name, std::uint64_t& value) {
      const std::optional<std::string> text = read_file(directory + name);
      return text && parse_number(std::string_view(*text).substr(0, text->find('\n')), value);
    };
    if (number("memory.max", limit) && number("memory.current", used)) {
      const std::optional<std::string> stat = read_file(directory + "memory.stat");
      const std::uint64_t cache = stat ? value_of(*stat, "inactive_file").value_or(0) : 0;
      const std::uint64_t needed = used > cache ? used - cache : 0;
      room = std::min(room, limit > needed ? limit - needed : 0);
    }
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return room;
    path.resize(slash);
  }
}

// What the limit on written memory (RLIMIT_DATA) leaves this process.
std::uint64_t data_room() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_DATA, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return std::numeric_limits<std::uint64_t>::max();
  const std::optional<std::string> text = read_file("/proc/self/status");
  const std::uint64_t used = text ? value_of(*text, "VmData:").value_or(0) * 1024 : 0;
  return limit.rlim_cur > used ? limit.rlim_cur - used : 0;
}

}  // namespace

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

std::optional<ProcDir> ProcDir::open(std::int32_t pid) {
  ProcDir proc;
  proc.pid_ = pid;
  proc.directory_ = Fd(::open(fmt::format("/proc/{}", pid).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!proc.directory_) return std::nullopt;
  return proc;
}

Fd ProcDir::open_file(const std::string& name) const {
  return Fd(::openat(directory_.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
}

std::optional<std::string> ProcDir::read(const std::string& name, std::size_t max_bytes) const {
  const Fd file = open_file(name);
  return file ? read_all(file.get(), max_bytes) : std::nullopt;
}

std::string ProcDir::link(const std::string& name) const {
  std::array<char, 4096> target;
  const ssize_t n = ::readlinkat(directory_.get(), name.c_str(), target.data(), target.size());
  return n < 0 ? std::string() : std::string(target.data(), static_cast<std::size_t>(n));
}

std::vector<std::int32_t> ProcDir::threads() const {
  std::vector<std::int32_t> tids;
  const int fd = ::openat(directory_.get(), "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return tids;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::fdopendir(fd), ::closedir);
  if (directory == nullptr) {
    ::close(fd);
    return tids;
  }
  while (const dirent* entry = ::readdir(directory.get())) {
    std::int32_t tid = 0;
    if (parse_number(std::string_view(entry->d_name), tid)) tids.push_back(tid);
  }
  std::sort(tids.begin(), tids.end());
  return tids;
}

std::optional<TaskState> ProcDir::state(std::int32_t tid) const {
  const std::optional<std::string> text = read(fmt::format("task/{}/stat", tid), 4096);
  return text ? parse_stat(*text) : std::nullopt;
}

std::optional<TaskStatus> ProcDir::status(std::int32_t tid) const {
  const std::optional<std::string> text = read(fmt::format("task/{}/status", tid), 65536);
  return text ? parse_status(*text) : std::nullopt;
}

std::int32_t ProcDir::living_thread() const {
  const auto lives = [&](std::int32_t tid) {
    const std::optional<TaskState> task = state(tid);
    return task && !task->ended();
  };
  if (lives(pid_)) return pid_;
  for (const std::int32_t tid : threads()) {
    if (lives(tid)) return tid;
  }
  // In an exec the last thread may have become the main one between the two looks.
  return lives(pid_) ? pid_ : 0;
}

// "pid (name) state parent group session terminal foreground flags ...", where the name may hold anything, even ") ".
std::optional<TaskState> parse_stat(std::string_view text) {
  const std::size_t open = text.find('(');
  const std::size_t close = text.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) return std::nullopt;
  TaskState task;
  task.name = text.substr(open + 1, close - open - 1);
  std::string_view rest = text.substr(std::min(close + 2, text.size()));
  const std::string_view state = next_word(rest);
  if (state.size() != 1 || !parse_number(next_word(rest), task.parent)) return std::nullopt;
  task.state = state[0];
  for (int skipped = 0; skipped < 4; ++skipped) next_word(rest);
  std::uint64_t flags = 0;
  if (parse_number(next_word(rest), flags)) task.kernel_thread = (flags & kKernelThreadFlag) != 0;
  return task;
}

std::optional<TaskStatus> parse_status(std::string_view text) {
  const std::optional<std::uint64_t> tgid = value_of(text, "Tgid:");
  if (!tgid) return std::nullopt;
  TaskStatus status;
  status.tgid = static_cast<std::int32_t>(*tgid);
  status.tracer = static_cast<std::int32_t>(value_of(text, "TracerPid:").value_or(0));
  status.user = static_cast<std::uint32_t>(value_of(text, "Uid:").value_or(0));
  status.rss_bytes = value_of(text, "VmRSS:").value_or(0) * 1024;
  return status;
}

std::vector<Mapping> parse_maps(std::string_view text) {
  std::vector<Mapping> mappings;
  Addr covered = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    Mapping mapping;
    const bool understood = parse_maps_line(text.substr(0, end), mapping);
    text.remove_prefix(std::min(end + 1, text.size()));
    // Read without a stop, the list may repeat itself where mappings changed meanwhile.
    if (!understood || mapping.start < covered || mapping.start >= mapping.end || mapping.end > kKernelHalf) continue;
    if (!is_aligned(mapping.start, kPageBytes) || !is_aligned(mapping.end, kPageBytes)) continue;
    covered = mapping.end;
    mappings.push_back(std::move(mapping));
  }
  return mappings;
}

std::vector<std::pair<std::uint64_t, std::uint64_t>> parse_auxv(std::string_view bytes) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> auxv;
  std::array<std::uint64_t, 2> entry;
  for (; bytes.size() >= sizeof entry; bytes.remove_prefix(sizeof entry)) {
    std::memcpy(entry.data(), bytes.data(), sizeof entry);
    if (entry[0] == 0) break;
    auxv.emplace_back(entry[0], entry[1]);
  }
  return auxv;
}

PageMap::PageMap(const ProcDir& proc, std::int32_t tid, Method preferred)
    : file_(proc.open_file(fmt::format("task/{}/pagemap", tid))) {
  if (!file_) {
    const bool denied = errno == EACCES || errno == EPERM;
    unavailable_ = denied || ::access("/proc/self/pagemap", F_OK) != 0;
  }
  if (!file_ || preferred != Method::kScan) return;
  std::vector<AddrRange> none;
  can_scan_ = scan({kPageBytes, 2 * kPageBytes}, Want::kHeld, none);
}

bool PageMap::find(AddrRange range, Want want, std::vector<AddrRange>& runs) const {
  if (!file_) return false;
  return can_scan_ ? scan(range, want, runs) : read_entries(range, want, runs);
}

bool PageMap::scan(AddrRange range, Want want, std::vector<AddrRange>& runs) const {
  std::array<ScanRegion, 512> found;
  ScanArgument argument{};
  argument.size = sizeof argument;
  argument.end = range.end;
  argument.vec = reinterpret_cast<std::uintptr_t>(found.data());
  argument.vec_len = found.size();
  // A page matches if it has none of the inverted categories and at least one of the others.
  argument.category_inverted = want == Want::kAnonymous ? kPageIsFile | kPageIsZeroPage : kPageIsZeroPage;
  argument.category_mask = argument.category_inverted;
  argument.category_anyof_mask = want == Want::kInMemory ? kPageIsPresent : kPageIsPresent | kPageIsSwapped;
  argument.return_mask = kPageIsPresent;
  for (Addr at = range.start; at < range.end; at = argument.walk_end) {
    argument.start = at;
    const int n = ::ioctl(file_.get(), kPagemapScan, &argument);
    if (n < 0 || argument.walk_end <= at) return false;
    for (int i = 0; i < n; ++i)
      append_run(runs, {found[static_cast<std::size_t>(i)].start, found[static_cast<std::size_t>(i)].end});
  }
  return true;
}

bool PageMap::read_entries(AddrRange range, Want want, std::vector<AddrRange>& runs) const {
  std::vector<std::uint64_t> entries(16 * 1024);
  const std::uint64_t held = want == Want::kInMemory ? kEntryPresent : kEntryPresent | kEntrySwapped;
  const std::uint64_t excluded = want == Want::kAnonymous ? kEntryFile : 0;
  for (Addr at = range.start; at < range.end;) {
    const std::size_t pages = std::min<std::uint64_t>(entries.size(), (range.end - at) / kPageBytes);
    const auto offset = static_cast<off_t>(at / kPageBytes * sizeof(std::uint64_t));
    const ssize_t n = ::pread(file_.get(), entries.data(), pages * sizeof(std::uint64_t), offset);
    if (n < static_cast<ssize_t>(sizeof(std::uint64_t))) return false;
    const std::size_t read = static_cast<std::size_t>(n) / sizeof(std::uint64_t);
    for (std::size_t i = 0; i < read; ++i) {
      if ((entries[i] & held) == 0 || (entries[i] & excluded) != 0) continue;
      append_run(runs, {at + i * kPageBytes, at + (i + 1) * kPageBytes});
    }
    at += read * kPageBytes;
  }
  return true;
}

void append_run(std::vector<AddrRange>& runs, AddrRange run) {
  if (!runs.empty() && runs.back().end == run.start) {
    runs.back().end = run.end;
  } else {
    runs.push_back(run);
  }
}

std::uint64_t available_memory_bytes() {
  const std::optional<std::string> text = read_file("/proc/meminfo");
  const std::optional<std::uint64_t> kilobytes = text ? value_of(*text, "MemAvailable:") : std::nullopt;
  const std::uint64_t machine = kilobytes ? *kilobytes * 1024 : std::numeric_limits<std::uint64_t>::max();
  return std::min({machine, cgroup_room(), data_room()});
}

}  // namespace heapcore::live
