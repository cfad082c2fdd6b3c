// What /proc tells of a live process. Private to coreparse.
//
// A ProcDir holds /proc/PID open, so that a reused pid is never taken for the process we began with: once that process
// is gone, every read through it fails. It may exec, though, so what was read before a stop must be read again after
// it. Sources: proc_pid_maps(5), proc_pid_stat(5), the kernel's Documentation/admin-guide/mm/pagemap.rst (Linux 6.7 for
// PAGEMAP_SCAN).
//
// Does not: stop or trace anything, nor read the process's memory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coreparse/snapshot.h"
#include "support/addr.h"

namespace heapcore::live {

constexpr std::uint64_t kPageBytes = 4096;

// Owns a file descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd();
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// From .../stat.
struct TaskState {
  std::string name;  // at most 15 bytes, as the kernel keeps it
  char state = '?';  // R running, S sleeping, D uninterruptible, T stopped, t traced, Z zombie, X dead
  std::int32_t parent = 0;
  bool kernel_thread = false;

  bool ended() const { return state == 'Z' || state == 'X'; }
};

// From .../status.
struct TaskStatus {
  std::int32_t tgid = 0;
  std::int32_t tracer = 0;  // 0 for none
  std::uint32_t user = 0;   // real uid
  std::uint64_t rss_bytes = 0;
};

class ProcDir {
 public:
  // Null, with errno set, if there is no such directory.
  static std::optional<ProcDir> open(std::int32_t pid);

  std::int32_t pid() const { return pid_; }
  // `name` is relative to /proc/PID. Invalid, with errno set, on failure.
  Fd open_file(const std::string& name) const;
  // The file's first max_bytes at most; nothing, with errno set, if it cannot be read.
  std::optional<std::string> read(const std::string& name, std::size_t max_bytes) const;
  std::string link(const std::string& name) const;  // empty if it cannot be read
  std::vector<std::int32_t> threads() const;        // sorted
  std::optional<TaskState> state(std::int32_t tid) const;
  std::optional<TaskStatus> status(std::int32_t tid) const;
  // A thread that has not ended: the process's memory is reached through it, because a main thread that called
  // pthread_exit() is a zombie whose maps are empty. 0 if every thread has ended.
  std::int32_t living_thread() const;

 private:
  std::int32_t pid_ = 0;
  Fd directory_;
};

std::optional<TaskState> parse_stat(std::string_view text);
std::optional<TaskStatus> parse_status(std::string_view text);
// The mappings of the lower half of the address range, in order. Lines that make no sense are left out.
std::vector<Mapping> parse_maps(std::string_view text);
std::vector<std::pair<std::uint64_t, std::uint64_t>> parse_auxv(std::string_view bytes);

// Which pages hold something of their own.
class PageMap {
 public:
  enum class Want : std::uint8_t {
    kHeld,       // in memory or swap, and not the shared zero page where the kernel can tell
    kAnonymous,  // of these, those that are not a file's: written to since they were mapped
    kInMemory,   // in memory
  };
  enum class Method : std::uint8_t {
    kScan,
    kEntries
  };  // PAGEMAP_SCAN where the kernel has it, or else one word a page

  PageMap(const ProcDir& proc, std::int32_t tid, Method preferred = Method::kScan);

  // Whether there is no page map to read: some kernels have none, or keep them from users.
  bool unavailable() const { return unavailable_; }
  // Appends the wanted pages of `range` as runs, joining neighbours. False if the process's memory is gone.
  bool find(AddrRange range, Want want, std::vector<AddrRange>& runs) const;

 private:
  bool scan(AddrRange range, Want want, std::vector<AddrRange>& runs) const;
  bool read_entries(AddrRange range, Want want, std::vector<AddrRange>& runs) const;

  Fd file_;
  bool unavailable_ = false;
  bool can_scan_ = false;
};

// Appends a run to a sorted list, joining it with the last one if they touch.
void append_run(std::vector<AddrRange>& runs, AddrRange run);

// Memory that this process can still take without pushing anyone out: the machine's, or what its own control group or
// its own limit (RLIMIT_DATA) leaves, if less.
std::uint64_t available_memory_bytes();

}  // namespace heapcore::live
