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
#include <exception>
#include <new>
#include <stdexcept>
#include <string_view>

#include "support/result.h"

namespace heapcore {
namespace {

constexpr int kEndingSignals[] = {SIGINT, SIGTERM, SIGHUP};

// What a signal's handler removes.
std::array<char, PATH_MAX> unfinished_path;
std::atomic<bool> is_unfinished{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void say(std::string_view text) {
  const auto ignored = ::write(STDERR_FILENO, text.data(), text.size());
  static_cast<void>(ignored);
}

void clean_up() {
  if (is_unfinished) ::unlink(unfinished_path.data());
  if (::isatty(STDERR_FILENO) == 1) say("\r\x1b[K");
}

void end_program(int number) {
  clean_up();
  ::_exit(128 + number);
}

[[noreturn]] void end_without(const char* what) {
  clean_up();
  say("heapcore: memory or threads ran out: ");
  say(what);
  say("\nraise --max-memory if it was given, or the limits on address space and processes (ulimit -v, ulimit -u)\n");
  ::_exit(3);
}

[[noreturn]] void end_unable() {
  try {
    if (const std::exception_ptr thrown = std::current_exception()) std::rethrow_exception(thrown);
  } catch (const std::bad_alloc& exception) {
    end_without(exception.what());
  } catch (const std::runtime_error& exception) {  // oneTBB's and the library's own, of threads
    end_without(exception.what());
  } catch (...) {
  }
  std::abort();  // a defect of heapcore's
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

void end_cleanly_on_exceptions() {
  std::set_terminate(end_unable);
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

bool OutputFile::refuse_to_replace() const {
  fmt::print(stderr, "heapcore: {} is there already\nname another file with -o, or replace it with --force\n", path_);
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
  if (exists && !how_.may_replace) return refuse_to_replace();
  if (exists) {
    if (::access(path_.c_str(), W_OK) != 0) return complain("cannot be written", errno);
    if (char* real = ::realpath(path_.c_str(), nullptr)) {
      final_path_ = real;
      std::free(real);  // NOLINT: realpath() calls malloc()
    }
  }
  const std::size_t name = final_path_.rfind('/') + 1;  // 0 where there is no slash
  temporary_path_ = fmt::format("{}.{}.{}.part", final_path_.substr(0, name), final_path_.substr(name), ::getpid());
  const mode_t mode = how_.is_private ? 0600 : exists ? old.st_mode & 0777 : 0666;
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
  if (temporary_path_.empty()) return commit();
  // From here on the answer is whole, and a signal comes too late to take it back: the program ends by itself.
  for (const int number : kEndingSignals) std::signal(number, SIG_IGN);
  return commit();
}

bool OutputFile::commit() {
  if (path_.empty()) return true;
  const int closed = ::close(descriptor_);
  descriptor_ = -1;
  if (closed != 0) return complain("could not be written whole", errno);
  if (temporary_path_.empty()) return true;
  if (!how_.may_replace) {
    // Somebody may have made one meanwhile. A file system without this way to say so gets what a look can tell.
    if (::renameat2(AT_FDCWD, temporary_path_.c_str(), AT_FDCWD, final_path_.c_str(), RENAME_NOREPLACE) == 0) {
      temporary_path_.clear();
      is_unfinished = false;
      return true;
    }
    if (errno == EEXIST || ::access(final_path_.c_str(), F_OK) == 0) return refuse_to_replace();
  }
  if (std::rename(temporary_path_.c_str(), final_path_.c_str()) != 0) return complain("cannot be written", errno);
  temporary_path_.clear();
  is_unfinished = false;
  return true;
}

}  // namespace heapcore
