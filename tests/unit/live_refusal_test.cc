// Processes that open_process() must refuse, and what it says then.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/memfd.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include <array>
#include <cstring>
#include <string>

#include "coreparse/live_target.h"
#include "coreparse/snapshot.h"
#include "live_child.h"

namespace heapcore {
namespace {

using live::Child;
using live::count_for_ever;
using live::eventually;
using live::Shared;
using live::sleep_for_ever;

void expect_refused(std::int32_t pid, ErrorCode code, std::string_view words) {
  const Result<Snapshot> snapshot = open_process(pid, {}, Progress::none());
  ASSERT_FALSE(snapshot.ok());
  EXPECT_EQ(snapshot.error().code, code) << snapshot.error().message;
  EXPECT_NE(snapshot.error().message.find(words), std::string::npos) << snapshot.error().message;
  EXPECT_NE(snapshot.error().message.find(std::to_string(pid)), std::string::npos) << snapshot.error().message;
  EXPECT_FALSE(snapshot.error().hint.empty());
}

TEST(LiveRefusal, NoSuchProcess) {
  expect_refused(0, ErrorCode::kNotFound, "no process");
  expect_refused(-5, ErrorCode::kNotFound, "no process");
  expect_refused(std::numeric_limits<std::int32_t>::max(), ErrorCode::kNotFound, "no process");
}

TEST(LiveRefusal, ItselfAndItsAncestors) {
  expect_refused(::getpid(), ErrorCode::kUnsupported, "heapcore itself");
  if (::getppid() > 0) expect_refused(::getppid(), ErrorCode::kUnsupported, "ancestor");
}

TEST(LiveRefusal, Zombie) {
  Child child([](Shared&) { return 3; });
  ASSERT_TRUE(eventually([&] { return child.state() == 'Z'; }));
  expect_refused(child.pid(), ErrorCode::kProcessGone, "zombie");
  EXPECT_EQ(WEXITSTATUS(child.wait_end()), 3);
}

TEST(LiveRefusal, KernelThread) {
  const auto proc = live::ProcDir::open(2);
  const auto task = proc ? proc->state(2) : std::nullopt;
  if (!task || !task->kernel_thread) GTEST_SKIP() << "no kernel threads are to be seen here";
  expect_refused(2, ErrorCode::kUnsupported, "kernel thread");
}

TEST(LiveRefusal, AThreadIsNotAProcess) {
  Child child([](Shared& shared) {
    std::thread thread([&] {
      shared.addresses[0] = static_cast<std::uint64_t>(::syscall(SYS_gettid));
      sleep_for_ever(shared);
    });
    thread.join();
    return 0;
  });
  ASSERT_TRUE(child.wait_ready());
  expect_refused(static_cast<std::int32_t>(child.shared().addresses[0]), ErrorCode::kNotFound,
                 "is a thread of process");
}

TEST(LiveRefusal, AlreadyTraced) {
  Child target([](Shared& shared) {
    count_for_ever(shared);
    return 0;
  });
  ASSERT_TRUE(target.wait_ready());
  const pid_t pid = target.pid();
  Child tracer([pid](Shared& shared) {
    if (::ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) != 0) return 1;
    sleep_for_ever(shared);
    return 0;
  });
  ASSERT_TRUE(tracer.wait_ready());
  expect_refused(pid, ErrorCode::kNotPermitted, "already traced by process " + std::to_string(tracer.pid()));
  EXPECT_TRUE(target.counts_on());
}

// Opens `pid` as another user; leaves the error in shared memory.
int open_as_nobody(std::int32_t pid, Shared& shared) {
  if (::setgid(65534) != 0 || ::setuid(65534) != 0) return 2;
  const Result<Snapshot> snapshot = open_process(pid, {}, Progress::none());
  if (snapshot.ok()) return 1;
  const Error& error = snapshot.error();
  const std::string text = std::to_string(static_cast<int>(error.code)) + "\n" + error.message + "\n" + error.hint;
  std::strncpy(shared.text, text.c_str(), sizeof shared.text - 1);
  return 0;
}

TEST(LiveRefusal, AnotherUsersProcess) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  Child target([](Shared& shared) {
    count_for_ever(shared);
    return 0;
  });
  ASSERT_TRUE(target.wait_ready());
  const pid_t pid = target.pid();
  Child other([pid](Shared& shared) { return open_as_nobody(pid, shared); });
  ASSERT_TRUE(eventually([&] { return other.state() == 'Z'; }));
  const std::string text = other.shared().text;
  EXPECT_EQ(text.substr(0, text.find('\n')), std::to_string(static_cast<int>(ErrorCode::kNotPermitted)));
  EXPECT_NE(text.find(std::to_string(pid)), std::string::npos) << text;
  EXPECT_NE(text.find("CAP_SYS_PTRACE"), std::string::npos) << text;
  EXPECT_NE(text.find("another user's"), std::string::npos) << text;
  EXPECT_EQ(WEXITSTATUS(other.wait_end()), 0);
  EXPECT_TRUE(target.counts_on());
}

TEST(LiveRefusal, AnUndumpableProcessOfTheSameUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  Child target([](Shared& shared) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) return 1;
    ::prctl(PR_SET_DUMPABLE, 0);
    count_for_ever(shared);
  });
  ASSERT_TRUE(target.wait_ready());
  const pid_t pid = target.pid();
  Child other([pid](Shared& shared) { return open_as_nobody(pid, shared); });
  ASSERT_TRUE(eventually([&] { return other.state() == 'Z'; }));
  EXPECT_EQ(WEXITSTATUS(other.wait_end()), 0);
  EXPECT_NE(std::string(other.shared().text).find("CAP_SYS_PTRACE"), std::string::npos) << other.shared().text;
}

// A 32-bit program that waits for signals for ever, as an ELF file of one segment.
std::array<unsigned char, 97> program_of_i386() {
  constexpr std::array<unsigned char, 97> kFile = {
      0x7f, 'E', 'L', 'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,                 // e_ident: 32-bit, little-endian
      2, 0, 3, 0, 1, 0, 0, 0, 0x54, 0x80, 0x04, 0x08, 52, 0, 0, 0,             // ET_EXEC, EM_386, entry 0x8048054,
                                                                               // e_phoff
      0, 0, 0, 0, 0, 0, 0, 0, 52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0,            // no sections;
                                                                               // one program
                                                                               // header
      1, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x80, 0x04, 0x08, 0x00, 0x80, 0x04, 0x08,  // PT_LOAD of the whole file at
                                                                               // 0x8048000
      97, 0, 0, 0, 97, 0, 0, 0, 5, 0, 0, 0, 0, 0x10, 0, 0,                     // sizes, r-x, alignment
      0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7, 0, 0, 0, 0};  // again: mov eax, 29 (pause); int 0x80; jmp again
  return kFile;
}

TEST(LiveRefusal, A32BitProcess) {
  Child child([](Shared& shared) {
    const auto file = program_of_i386();
    const int fd = static_cast<int>(::syscall(SYS_memfd_create, "i386", MFD_CLOEXEC));
    if (::write(fd, file.data(), file.size()) != static_cast<ssize_t>(file.size())) return 1;
    shared.ready = true;
    char* none[] = {nullptr};
    ::fexecve(fd, none, none);
    return 2;
  });
  ASSERT_TRUE(child.wait_ready());
  const auto is_started = [&] {
    const auto proc = live::ProcDir::open(child.pid());
    return child.state() == 'Z' || proc->link("exe").find("memfd:i386") != std::string::npos;
  };
  ASSERT_TRUE(eventually(is_started));
  if (child.state() == 'Z') GTEST_SKIP() << "this kernel runs no 32-bit programs";
  expect_refused(child.pid(), ErrorCode::kWrongArchitecture, "32-bit");
  EXPECT_EQ(child.tracer(), 0);
}

TEST(LiveRefusal, HintsNameTheCapabilityAndTheSysctl) {
  const auto has = [](const std::string& hint, std::string_view words) {
    return hint.find(words) != std::string::npos;
  };
  EXPECT_TRUE(has(live::permission_hint(true, 1), "CAP_SYS_PTRACE"));
  EXPECT_TRUE(has(live::permission_hint(true, 1), "kernel.yama.ptrace_scope=0 (it is 1)"));
  EXPECT_TRUE(has(live::permission_hint(true, 2), "it is 2"));
  EXPECT_TRUE(has(live::permission_hint(true, 3), "until the next boot"));
  EXPECT_TRUE(has(live::permission_hint(false, 1), "kernel.yama.ptrace_scope is 1"));
  EXPECT_TRUE(has(live::permission_hint(false, std::nullopt), "another user's"));
  EXPECT_FALSE(has(live::permission_hint(false, 0), "yama"));
  EXPECT_TRUE(has(live::permission_hint(true, std::nullopt), "undumpable"));
}

}  // namespace
}  // namespace heapcore
