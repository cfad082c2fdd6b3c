#include "output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "support/result.h"

namespace heapcore {
namespace {

constexpr int kEndingSignals[] = {SIGINT, SIGTERM, SIGHUP};

// What a signal's handler removes.
std::array<char, PATH_MAX> unfinished_path;
std::atomic<bool> is_unfinished{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void end_program(int number) {
  constexpr char kEraseLine[] = "\r\x1b[K";
  if (is_unfinished) ::unlink(unfinished_path.data());
  if (::isatty(STDERR_FILENO) == 1) {
    const auto ignored = ::write(STDERR_FILENO, kEraseLine, sizeof kEraseLine - 1);
    static_cast<void>(ignored);
  }
  ::_exit(128 + number);
}

bool write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

}  // namespace

void end_cleanly_on_signals() {
  for (const int number : kEndingSignals) {
    struct sigaction action {};
    if (::sigaction(number, nullptr, &action) != 0 || action.sa_handler == SIG_IGN) continue;
    action.sa_handler = end_program;
    ::sigaction(number, &action, nullptr);
  }
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_path_.empty()) ::unlink(temporary_path_.c_str());
  is_unfinished = false;
}

bool OutputFile::complain(const std::string& what, int number) const {
  fmt::print(stderr, "heapcore: {} {}: {}\nname another file with -o\n", path_, what, errno_text(number));
  return false;
}

bool OutputFile::open() {
  if (path_.empty()) {
    descriptor_ = ::dup(STDOUT_FILENO);  // if it is closed, write() says so
    return true;
  }
  final_path_ = path_;
  struct stat old {};
  const bool exists = ::stat(path_.c_str(), &old) == 0;
  if (exists && !S_ISREG(old.st_mode)) {
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    return descriptor_ >= 0 || complain("cannot be written", errno);
  }
  if (exists) {
    if (::access(path_.c_str(), W_OK) != 0) return complain("cannot be written", errno);
    if (char* real = ::realpath(path_.c_str(), nullptr)) {
      final_path_ = real;
      std::free(real);  // NOLINT: realpath() calls malloc()
    }
  }
  const std::size_t name = final_path_.rfind('/') + 1;  // 0 where there is no slash
  temporary_path_ = fmt::format("{}.{}.{}.part", final_path_.substr(0, name), final_path_.substr(name), ::getpid());
  const mode_t mode = exists ? old.st_mode & 0777 : 0666;
  // Before there is one, lest a signal come in between.
  if (temporary_path_.size() < unfinished_path.size()) {
    std::memcpy(unfinished_path.data(), temporary_path_.c_str(), temporary_path_.size() + 1);
    is_unfinished = true;
  }
  descriptor_ = ::open(temporary_path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (descriptor_ < 0) {
    const int number = errno;
    is_unfinished = false;
    temporary_path_.clear();
    return complain("cannot be written", number);
  }
  return true;
}

bool OutputFile::write(const std::string& text) {
  if (!write_all(descriptor_, text)) {
    if (path_.empty()) {
      if (errno != EPIPE) {
        fmt::print(stderr, "heapcore: the answer could not be written whole to standard output: {}\n",
                   errno_text(errno));
      }
      return false;
    }
    return complain("could not be written whole", errno);
  }
  if (path_.empty()) return true;
  const int closed = ::close(descriptor_);
  descriptor_ = -1;
  if (closed != 0) return complain("could not be written whole", errno);
  if (temporary_path_.empty()) return true;
  // From here on the answer is whole, and a signal comes too late to take it back: the program ends by itself.
  for (const int number : kEndingSignals) std::signal(number, SIG_IGN);
  if (std::rename(temporary_path_.c_str(), final_path_.c_str()) != 0) return complain("cannot be written", errno);
  temporary_path_.clear();
  is_unfinished = false;
  return true;
}

}  // namespace heapcore
