#include "coreparse/live_target.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>

#include "coreparse/elf_core.h"

namespace heapcore::live {
namespace {

constexpr int kMaxAncestors = 10'000;

std::optional<int> yama_ptrace_scope() {
  const Fd file(::open("/proc/sys/kernel/yama/ptrace_scope", O_RDONLY | O_CLOEXEC));
  std::array<char, 16> text;
  const ssize_t n = file ? ::read(file.get(), text.data(), text.size()) : 0;
  int value = 0;
  if (n <= 0 || std::from_chars(text.data(), text.data() + n, value).ec != std::errc{}) return std::nullopt;
  return value;
}

std::string name_of(std::int32_t pid) {
  const std::optional<ProcDir> proc = ProcDir::open(pid);
  const std::optional<TaskState> task = proc ? proc->state(pid) : std::nullopt;
  return task ? fmt::format("{} ({})", pid, task->name) : fmt::format("{}", pid);
}

Error no_process(std::int32_t pid) {
  return {ErrorCode::kNotFound, fmt::format("there is no process {}", pid),
          "list the processes with ps -e; in a container, its own pids count"};
}

// Nothing if `pid` is neither this process nor an ancestor of it.
std::optional<Error> refuse_own_chain(std::int32_t pid) {
  if (pid == ::getpid()) {
    return Error{ErrorCode::kUnsupported, fmt::format("process {} is heapcore itself", pid),
                 "give the pid of another process"};
  }
  std::int32_t ancestor = ::getppid();
  for (int i = 0; i < kMaxAncestors && ancestor > 0; ++i) {
    if (ancestor == pid) {
      return Error{
          ErrorCode::kUnsupported,
          fmt::format("process {} is an ancestor of heapcore; stopping it could stop heapcore too", name_of(pid)),
          "run heapcore from another terminal or with setsid --fork, or take a core from there"};
    }
    const std::optional<ProcDir> proc = ProcDir::open(ancestor);
    const std::optional<TaskState> task = proc ? proc->state(ancestor) : std::nullopt;
    if (!task) break;
    ancestor = task->parent;
  }
  return std::nullopt;
}

// Nothing if the program is 64-bit x86-64, or cannot be told (the registers will).
std::optional<Error> refuse_other_architecture(const ProcDir& proc, std::int32_t tid) {
  const std::optional<std::string> header = proc.read(fmt::format("task/{}/exe", tid), EI_NIDENT + 4);
  if (!header || header->size() < EI_NIDENT + 4 || std::memcmp(header->data(), ELFMAG, SELFMAG) != 0)
    return std::nullopt;
  std::uint16_t machine = 0;
  std::memcpy(&machine, header->data() + EI_NIDENT + 2, sizeof machine);
  const bool is_64_bit = (*header)[EI_CLASS] == ELFCLASS64;
  if (is_64_bit && machine == EM_X86_64) return std::nullopt;
  return Error{
      ErrorCode::kWrongArchitecture,
      fmt::format("process {} is a {}-bit process of {}", proc.pid(), is_64_bit ? 64 : 32, machine_name(machine)),
      "heapcore reads 64-bit x86-64 processes"};
}

Error traced_error(std::int32_t pid, std::int32_t tracer) {
  return {ErrorCode::kNotPermitted, fmt::format("process {} is already traced by process {}", pid, name_of(tracer)),
          "only one tracer at a time is possible: end that debugger or strace, let it write a core (gdb: gcore), or "
          "read the "
          "process as it is with --no-stop"};
}

// What its state alone tells.
std::optional<Error> refuse_state(const ProcDir& proc, bool stop) {
  const std::int32_t pid = proc.pid();
  const std::optional<TaskStatus> status = proc.status(pid);
  const std::optional<TaskState> task = proc.state(pid);
  if (!status || !task) return gone_error(pid);
  if (task->kernel_thread) {
    return Error{ErrorCode::kUnsupported,
                 fmt::format("process {} ({}) is a kernel thread and has no memory of its own", pid, task->name),
                 "give the pid of a program"};
  }
  if (proc.living_thread() == 0) {
    return Error{ErrorCode::kProcessGone,
                 fmt::format("process {} ({}) is a zombie: it has ended, and its memory is gone", pid, task->name),
                 fmt::format("its parent, process {}, has not yet asked how it ended", name_of(task->parent))};
  }
  if (stop && status->tracer != 0) return traced_error(pid, status->tracer);
  return std::nullopt;
}

}  // namespace

Error gone_error(std::int32_t pid) {
  return {ErrorCode::kProcessGone, fmt::format("process {} ended while heapcore was looking at it", pid),
          "its memory is gone with it; a core file would have stayed (ulimit -c unlimited)"};
}

std::string permission_hint(bool own_user, std::optional<int> ptrace_scope) {
  const std::string privileged =
      "run heapcore as root or with the capability CAP_SYS_PTRACE (in a container: "
      "--cap-add SYS_PTRACE)";
  if (ptrace_scope == 3) {
    return "the sysctl kernel.yama.ptrace_scope is 3, which forbids it to everyone until the next boot; take a core "
           "instead";
  }
  if (!own_user) {
    const std::string yama = ptrace_scope.value_or(0) > 0
                                 ? fmt::format("; the sysctl kernel.yama.ptrace_scope is {}", *ptrace_scope)
                                 : std::string();
    return fmt::format("it is another user's: run heapcore as that user, or {}{}", privileged.substr(13), yama);
  }
  if (ptrace_scope.value_or(0) > 0) {
    return fmt::format("{}, or allow it to every owner: sysctl kernel.yama.ptrace_scope=0 (it is {})", privileged,
                       *ptrace_scope);
  }
  return fmt::format(
      "the process has more rights than heapcore, or has made itself undumpable (prctl PR_SET_DUMPABLE): {}",
      privileged);
}

Error access_error(const ProcDir& proc, std::int32_t tid, int error_number) {
  const std::optional<TaskStatus> status = proc.status(tid);
  if (!status) return gone_error(proc.pid());
  if (status->tracer != 0) return traced_error(proc.pid(), status->tracer);
  return {ErrorCode::kNotPermitted,
          fmt::format("process {} of user {} may not be read by user {}: {}", proc.pid(), status->user, ::geteuid(),
                      errno_text(error_number)),
          permission_hint(status->user == ::geteuid(), yama_ptrace_scope())};
}

Result<ProcDir> find_target(std::int32_t pid, bool stop) {
  if (pid <= 0) return no_process(pid);
  if (std::optional<Error> error = refuse_own_chain(pid)) return *error;
  std::optional<ProcDir> proc = ProcDir::open(pid);
  if (!proc) {
    const bool exists = ::kill(pid, 0) == 0 || errno == EPERM;  // signal 0 is only a question
    if (!exists) return no_process(pid);
    return Error{ErrorCode::kNotPermitted,
                 fmt::format("process {} exists, but /proc does not show it to this user", pid),
                 "/proc is missing or mounted with hidepid: " + permission_hint(true, yama_ptrace_scope())};
  }
  const std::optional<std::string> own = proc->read("status", 65536);
  const std::optional<TaskStatus> task = own ? parse_status(*own) : std::nullopt;
  if (!task) return gone_error(pid);
  if (task->tgid != pid) {
    return Error{ErrorCode::kNotFound,
                 fmt::format("{} is a thread of process {}, not a process", pid, name_of(task->tgid)),
                 fmt::format("use --pid {}", task->tgid)};
  }
  if (std::optional<Error> error = refuse_state(*proc, stop)) return *error;
  const std::int32_t tid = proc->living_thread();
  if (!proc->open_file(fmt::format("task/{}/maps", tid))) {
    const int number = errno;
    if (number == EACCES || number == EPERM) return access_error(*proc, tid, number);
    return gone_error(pid);
  }
  if (std::optional<Error> error = refuse_other_architecture(*proc, tid)) return *error;
  return std::move(*proc);
}

}  // namespace heapcore::live
