// What open_process() reads, and that it leaves the process as it was.
#include "coreparse/snapshot.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/syscall.h>

#include <array>
#include <cstring>
#include <set>
#include <vector>

#include "live_child.h"

namespace heapcore {
namespace {

using live::Child;
using live::count_for_ever;
using live::eventually;
using live::Shared;
using live::sleep_for_ever;

constexpr std::uint64_t kPage = 4096;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kBusySnapshots = 40;  // a child of ours then has gigabytes of shadow memory to copy
#else
constexpr int kBusySnapshots = 200;
#endif

Result<Snapshot> open(Child& child) {
  return open_process(child.pid(), {}, Progress::none());
}

std::byte* map_anonymous(std::uint64_t n, int flags = MAP_PRIVATE, int protection = PROT_READ | PROT_WRITE) {
  void* memory = ::mmap(nullptr, n, protection, flags | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : static_cast<std::byte*>(memory);
}

std::uint64_t address_of(const volatile void* p) {
  return reinterpret_cast<std::uintptr_t>(p);
}

volatile std::uint64_t g_variable = 1;  // .data; children change it

void expect_sound(const Snapshot& snapshot) {
  Addr covered = 0;
  for (const Mapping& mapping : snapshot.mappings) {
    EXPECT_LE(covered, mapping.start);
    EXPECT_LT(mapping.start, mapping.end);
    covered = mapping.end;
  }
  std::uint64_t segment_bytes = 0;
  for (const Segment& segment : snapshot.space.segments()) segment_bytes += segment.size_bytes();
  EXPECT_EQ(segment_bytes, snapshot.mapped_bytes());
}

TEST(LiveProcess, ReadsTheValuesThatTheProcessHolds) {
  constexpr std::uint64_t kBytes = 8 << 20;
  Child child([](Shared& shared) {
    std::byte* pattern = map_anonymous(kBytes);
    for (std::uint64_t i = 0; i < kBytes; i += 8) std::memcpy(pattern + i, &i, 8);
    std::byte* read_only = map_anonymous(kPage);
    std::memset(read_only, 0x5a, kPage);
    ::mprotect(read_only, kPage, PROT_READ);
    std::byte* sparse = map_anonymous(64 << 20);
    sparse[5 * kPage + 7] = std::byte{0x77};
    g_variable = 0x1234567890;
    volatile std::uint64_t on_stack = 0xfeedface;
    auto* on_heap = new std::uint64_t(0xabcdef);
    shared.addresses[0] = address_of(pattern);
    shared.addresses[1] = address_of(read_only);
    shared.addresses[2] = address_of(sparse);
    shared.addresses[3] = address_of(&g_variable);
    shared.addresses[4] = address_of(&on_stack);
    shared.addresses[5] = address_of(on_heap);
    shared.addresses[6] = address_of(map_anonymous(kPage, MAP_PRIVATE, PROT_NONE));
    sleep_for_ever(shared);
    return 0;
  });
  ASSERT_TRUE(child.wait_ready());
  const Result<Snapshot> snapshot = open(child);
  ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
  expect_sound(*snapshot);
  const auto& at = child.shared().addresses;
  Reader reader(snapshot->space);
  const auto pattern = reader.span(at[0], kBytes);
  ASSERT_EQ(pattern.size(), kBytes);
  for (std::uint64_t i = 0; i < kBytes; i += 8) {
    std::uint64_t value = 0;
    std::memcpy(&value, pattern.data() + i, 8);
    ASSERT_EQ(value, i);
  }
  EXPECT_EQ(reader.load<std::uint8_t>(at[1] + 100), 0x5a);
  EXPECT_EQ(reader.load<std::uint8_t>(at[2] + 5 * kPage + 7), 0x77);
  EXPECT_EQ(reader.load<std::uint64_t>(at[2] + (50 << 20)), 0u);
  EXPECT_EQ(reader.load<std::uint64_t>(at[3]), 0x1234567890u);
  EXPECT_EQ(reader.load<std::uint64_t>(at[4]), 0xfeedfaceu);
  EXPECT_EQ(reader.load<std::uint64_t>(at[5]), 0xabcdefu);
  EXPECT_EQ(snapshot->space.state(at[6]), ByteState::kNotDumped);
  EXPECT_EQ(snapshot->space.state(address_of(&child.shared())), ByteState::kNotDumped);
  EXPECT_TRUE(snapshot->mapping_at(address_of(&child.shared()))->shared);
}

TEST(LiveProcess, TellsWhoTheProcessIs) {
  Child child([](Shared& shared) {
    ::prctl(PR_SET_NAME, "odd) name (x");
    sleep_for_ever(shared);
    return 0;
  });
  ASSERT_TRUE(child.wait_ready());
  const Result<Snapshot> snapshot = open(child);
  ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
  EXPECT_EQ(snapshot->info.kind, TargetKind::kProcess);
  EXPECT_EQ(snapshot->info.pid, child.pid());
  EXPECT_GT(snapshot->info.pause_seconds, 0);
  EXPECT_LT(snapshot->info.pause_seconds, 10);
  std::array<char, 4096> self{};
  ASSERT_GT(::readlink("/proc/self/exe", self.data(), self.size() - 1), 0);
  EXPECT_EQ(snapshot->info.executable, self.data());
  EXPECT_FALSE(snapshot->info.command.empty());
  EXPECT_FALSE(snapshot->auxv.empty());
  ASSERT_EQ(snapshot->threads.size(), 1u);
  EXPECT_EQ(snapshot->threads[0].name, "odd) name (x");
  EXPECT_EQ(snapshot->threads[0].tid, child.pid());
  ASSERT_NE(snapshot->executable(), nullptr);
  EXPECT_NE(snapshot->executable()->match, FileMatch::kNone);
}

TEST(LiveProcess, HugeUntouchedMemoryCostsNothing) {
  constexpr std::uint64_t kBytes = std::uint64_t{1} << 42;
  Child child([](Shared& shared) {
    std::byte* memory = map_anonymous(kBytes);
    if (memory == nullptr) return 1;
    memory[0] = std::byte{1};
    memory[kBytes / 2] = std::byte{2};
    memory[kBytes - 1] = std::byte{3};
    shared.addresses[0] = address_of(memory);
    sleep_for_ever(shared);
    return 0;
  });
  ASSERT_TRUE(child.wait_ready());
  const Result<Snapshot> snapshot = open(child);
  ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
  expect_sound(*snapshot);
  const Addr start = child.shared().addresses[0];
  Reader reader(snapshot->space);
  EXPECT_EQ(reader.load<std::uint8_t>(start), 1);
  EXPECT_EQ(reader.load<std::uint8_t>(start + kBytes / 2), 2);
  EXPECT_EQ(reader.load<std::uint8_t>(start + kBytes - 1), 3);
  EXPECT_EQ(reader.load<std::uint64_t>(start + kBytes / 4), 0u);
  EXPECT_EQ(snapshot->space.state(start + kBytes / 4), ByteState::kZeroFill);
}

// Starts `count` threads that run `body` and have left their thread pointers in shared memory.
void start_threads(Shared& shared, std::size_t count, void* (*body)(void*)) {
  for (std::size_t i = 0; i < count; ++i) {
    pthread_t thread;
    pthread_create(&thread, nullptr, body, &shared);
    shared.thread_pointers[i] = static_cast<std::uint64_t>(thread);
  }
}

void* count(void* argument) {
  while (true) ++static_cast<Shared*>(argument)->counter;
}

TEST(LiveProcess, StopsSixteenBusyThreads) {
  Child child([](Shared& shared) {
    start_threads(shared, 16, count);
    count_for_ever(shared);
    return 0;
  });
  ASSERT_TRUE(child.wait_ready());
  const Result<Snapshot> snapshot = open(child);
  ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
  ASSERT_EQ(snapshot->threads.size(), 17u);
  EXPECT_EQ(snapshot->threads.front().tid, child.pid());
  std::set<Addr> found;
  for (const Thread& thread : snapshot->threads) {
    found.insert(thread.thread_pointer);
    EXPECT_NE(snapshot->module_at(thread.pc), nullptr);
    const Mapping* stack = snapshot->mapping_at(thread.sp);
    ASSERT_NE(stack, nullptr);
    EXPECT_TRUE(stack->writable);
    EXPECT_EQ(snapshot->space.state(thread.sp), ByteState::kPresent);
  }
  for (std::size_t i = 0; i < 16; ++i) EXPECT_TRUE(found.contains(child.shared().thread_pointers[i]));
  EXPECT_TRUE(child.counts_on());
  EXPECT_EQ(child.tracer(), 0);
}

TEST(LiveProcess, LeavesAStoppedProcessStopped) {
  Child child([](Shared& shared) {
    start_threads(shared, 3, count);
    count_for_ever(shared);
    return 0;
  });
  ASSERT_TRUE(child.wait_ready());
  ASSERT_EQ(::kill(child.pid(), SIGSTOP), 0);
  ASSERT_TRUE(eventually([&] { return child.state() == 'T'; }));
  for (int i = 0; i < 5; ++i) {
    const Result<Snapshot> snapshot = open(child);
    ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
    EXPECT_EQ(snapshot->threads.size(), 4u);
    ASSERT_TRUE(eventually([&] { return child.state() == 'T'; }));
    const std::uint64_t before = child.shared().counter;
    ::usleep(20'000);
    EXPECT_EQ(child.shared().counter, before);
  }
  ASSERT_EQ(::kill(child.pid(), SIGCONT), 0);
  EXPECT_TRUE(child.counts_on());
}

Shared* g_shared = nullptr;

void count_signal(int /*signal*/) {
  ++g_shared->signals;
}

int count_and_count_signals(Shared& shared) {
  g_shared = &shared;
  struct sigaction action {};
  action.sa_handler = count_signal;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGRTMIN, &action, nullptr);
  start_threads(shared, 3, count);
  count_for_ever(shared);
}

TEST(LiveProcess, LosesNoSignal) {
  Child child(count_and_count_signals);
  ASSERT_TRUE(child.wait_ready());
  std::atomic<bool> done{false};
  std::uint64_t sent = 0;
  std::thread sender([&] {
    while (!done) {
      sent += ::sigqueue(child.pid(), SIGRTMIN, {}) == 0 ? 1 : 0;
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  });
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(open(child).ok());
  done = true;
  sender.join();
  EXPECT_TRUE(eventually([&] { return child.shared().signals == sent; })) << child.shared().signals << " of " << sent;
  EXPECT_GT(sent, 0u);
}

void* end_at_once(void* /*argument*/) {
  return nullptr;
}

// Threads come and go, mappings come and go, memory grows and shrinks.
int churn(Shared& shared) {
  start_threads(shared, 4, count);
  shared.ready = true;
  for (std::uint64_t i = 0;; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, end_at_once, nullptr) == 0) pthread_join(thread, nullptr);
    const std::uint64_t n = kPage * (1 + i % 300);
    std::byte* memory = map_anonymous(n);
    std::memset(memory, 1, n);
    ::munmap(memory, n);
    std::vector<std::vector<char>> blocks;
    for (std::size_t k = 0; k < 50; ++k) blocks.emplace_back(1 + (i * 37 + k * 911) % 20'000);
    ++shared.signals;  // here: rounds
  }
}

TEST(LiveProcess, TwoHundredSnapshotsOfABusyProcess) {
  Child child(churn);
  ASSERT_TRUE(child.wait_ready());
  for (int i = 0; i < kBusySnapshots; ++i) {
    const Result<Snapshot> snapshot = open(child);
    ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
    expect_sound(*snapshot);
    ASSERT_GE(snapshot->threads.size(), 5u);
    ASSERT_EQ(child.tracer(), 0);
  }
  EXPECT_TRUE(child.counts_on());
  const std::uint64_t rounds = child.shared().signals;
  EXPECT_TRUE(eventually([&] { return child.shared().signals > rounds; }));
}

TEST(LiveProcess, KilledInTheMiddleItLeavesTheProcessRunning) {
  Child target(count_and_count_signals);
  ASSERT_TRUE(target.wait_ready());
  std::uint64_t sent = 0;
  for (unsigned round = 0; round < 40; ++round) {
    const pid_t pid = target.pid();
    Child tracer([pid](Shared& shared) {
      while (true) {
        if (open_process(pid, {}, Progress::none()).ok()) ++shared.counter;
        shared.ready = true;
      }
      return 0;
    });
    ASSERT_TRUE(tracer.wait_ready());
    for (unsigned i = 0; i < 20; ++i) {
      sent += ::sigqueue(pid, SIGRTMIN, {}) == 0 ? 1 : 0;
      ::usleep(50 + round * 7);
    }
    ASSERT_EQ(::kill(tracer.pid(), SIGKILL), 0);
    tracer.wait_end();
    ASSERT_TRUE(target.counts_on()) << "round " << round;
    ASSERT_EQ(target.tracer(), 0);
  }
  EXPECT_TRUE(eventually([&] { return target.shared().signals == sent; })) << target.shared().signals << " of " << sent;
}

TEST(LiveProcess, ProcessesThatEndInTheMiddle) {
  for (unsigned i = 0; i < 150; ++i) {
    Child child([i](Shared& shared) {
      start_threads(shared, 4, count);
      shared.ready = true;
      ::usleep(i * i * 2);
      ::_exit(7);
      return 0;
    });
    ASSERT_TRUE(child.wait_ready());
    const Result<Snapshot> snapshot = open(child);
    if (!snapshot) {
      EXPECT_EQ(snapshot.error().code, ErrorCode::kProcessGone) << snapshot.error().message;
    }
    const int status = child.wait_end();
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 7);
  }
}

// The process goes on to be `sleep`, and can be read then.
void expect_sleeps(Child& child) {
  EXPECT_TRUE(eventually([&] {
    const Result<Snapshot> snapshot = open(child);
    EXPECT_TRUE(snapshot.ok()) << snapshot.error().message;
    return !snapshot || snapshot->info.command == "sleep 1000";
  }));
}

TEST(LiveProcess, ProcessesThatExecInTheMiddle) {
  for (unsigned i = 0; i < 60; ++i) {
    Child child([i](Shared& shared) {
      start_threads(shared, 4, count);
      shared.ready = true;
      ::usleep(i * 50);
      ::execl("/bin/sleep", "sleep", "1000", nullptr);
      return 9;
    });
    ASSERT_TRUE(child.wait_ready());
    const Result<Snapshot> snapshot = open(child);
    ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
    expect_sound(*snapshot);
    expect_sleeps(child);
    ASSERT_TRUE(eventually([&] { return child.state() == 'S'; }));
  }
}

TEST(LiveProcess, ExecByAnotherThanTheMainThread) {
  for (unsigned i = 0; i < 60; ++i) {
    Child child([i](Shared& shared) {
      shared.signals = i;
      start_threads(shared, 3, count);
      shared.ready = true;
      pthread_t thread;
      const auto exec = [](void* argument) -> void* {
        ::usleep(static_cast<unsigned>(static_cast<Shared*>(argument)->signals * 50));
        ::execl("/bin/sleep", "sleep", "1000", nullptr);
        return nullptr;
      };
      pthread_create(&thread, nullptr, exec, &shared);
      count_for_ever(shared);
      return 9;
    });
    ASSERT_TRUE(child.wait_ready());
    const Result<Snapshot> snapshot = open(child);
    ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
    expect_sleeps(child);
    ASSERT_TRUE(eventually([&] { return child.state() == 'S'; }));
  }
}

TEST(LiveProcess, ReadsAProcessWhoseMainThreadHasEnded) {
  Child child([](Shared& shared) {
    g_variable = 4242;
    start_threads(shared, 1, count);
    shared.ready = true;
    ::syscall(SYS_exit, 0);
    return 0;
  });
  ASSERT_TRUE(child.wait_ready());
  ASSERT_TRUE(eventually([&] { return child.state() == 'Z'; }));
  const Result<Snapshot> snapshot = open(child);
  ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
  EXPECT_EQ(snapshot->threads.size(), 1u);
  EXPECT_EQ(Reader(snapshot->space).load<std::uint64_t>(address_of(&g_variable)), 4242u);
  EXPECT_TRUE(child.counts_on());
}

TEST(LiveProcess, ReadsAProcessThatWaitsForItsVforkedChild) {
  Child child([](Shared& shared) {
    shared.ready = true;
    if (::vfork() == 0) {
      ::usleep(700'000);
      ::_exit(0);
    }
    count_for_ever(shared);
    return 0;
  });
  ASSERT_TRUE(child.wait_ready());
  ASSERT_TRUE(eventually([&] { return child.state() == 'D'; }));
  const Result<Snapshot> snapshot = open(child);
  ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
  EXPECT_EQ(snapshot->findings.count("live-thread-held"), 1u);
  EXPECT_TRUE(child.counts_on());
  EXPECT_EQ(child.tracer(), 0);
}

TEST(LiveProcess, ReadsAProcessUnderSeccomp) {
  Child child([](Shared& shared) {
    ++shared.counter;
    shared.ready = true;
    ::syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
    while (true) ++shared.counter;
    return 0;
  });
  ASSERT_TRUE(child.wait_ready());
  EXPECT_TRUE(open(child).ok());
  EXPECT_TRUE(child.counts_on());
}

}  // namespace
}  // namespace heapcore
