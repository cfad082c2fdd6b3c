// The parts of reading a live process: /proc's texts, page maps, the host memory's layout.
#include <gtest/gtest.h>

#include <cstring>
#include <span>

#include "coreparse/live_copy.h"
#include "coreparse/live_proc.h"
#include "live_child.h"

namespace heapcore::live {
namespace {

TEST(LiveParts, ParsesMaps) {
  const auto mappings = parse_maps(
      "55d0c0a00000-55d0c0a21000 rw-p 00000000 00:00 0                          [heap]\n"
      "7f0000000000-7f0000001000 r-xp 00003000 08:01 12345                      /opt/a b/lib\\012x.so (deleted)\n"
      "7f0000001000-7f0000002000 ---s 00000000 00:01 7 \n"
      "garbage\n"
      "7f0000001800-7f0000002000 rw-p 00000000 00:00 0\n"
      "7f0000009000-7f0000008000 rw-p 00000000 00:00 0\n"
      "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n");
  ASSERT_EQ(mappings.size(), 3u);
  EXPECT_EQ(mappings[0].start, 0x55d0c0a00000u);
  EXPECT_EQ(mappings[0].end, 0x55d0c0a21000u);
  EXPECT_EQ(mappings[0].path, "[heap]");
  EXPECT_TRUE(mappings[0].readable && mappings[0].writable && !mappings[0].executable && !mappings[0].shared);
  EXPECT_EQ(mappings[1].path, "/opt/a b/lib\nx.so (deleted)");
  EXPECT_EQ(mappings[1].file_offset, 0x3000u);
  EXPECT_TRUE(mappings[1].executable);
  EXPECT_TRUE(mappings[2].shared && !mappings[2].readable);
  EXPECT_EQ(mappings[2].path, "");
}

TEST(LiveParts, ParsesAHundredThousandMappings) {
  std::string text;
  for (std::uint64_t i = 0; i < 100'000; ++i) {
    char line[128];
    std::snprintf(line, sizeof line, "%lx-%lx rw-p 00000000 00:00 0 \n", 0x10000 + i * 0x2000, 0x11000 + i * 0x2000);
    text += line;
  }
  EXPECT_EQ(parse_maps(text).size(), 100'000u);
}

TEST(LiveParts, ParsesStat) {
  const auto task = parse_stat("12 (a) b (c) S 34 12 12 0 -1 2097216 0 0");
  ASSERT_TRUE(task);
  EXPECT_EQ(task->name, "a) b (c");
  EXPECT_EQ(task->state, 'S');
  EXPECT_EQ(task->parent, 34);
  EXPECT_TRUE(task->kernel_thread);
  EXPECT_FALSE(parse_stat(""));
  EXPECT_FALSE(parse_stat("12 (x"));
  EXPECT_FALSE(parse_stat("12 (x)"));
  EXPECT_FALSE(parse_stat(")("));
}

TEST(LiveParts, ParsesStatusAndAuxv) {
  const auto status =
      parse_status("Name:\tx\nState:\tS (sleeping)\nTgid:\t7\nTracerPid:\t9\nUid:\t1000\t1000\t1000\t1000\n");
  ASSERT_TRUE(status);
  EXPECT_EQ(status->tgid, 7);
  EXPECT_EQ(status->tracer, 9);
  EXPECT_EQ(status->user, 1000u);
  EXPECT_FALSE(parse_status("Name:\tx\n"));
  const std::uint64_t words[] = {3, 0x40, 25, 0x99, 0, 0, 1, 1};
  const auto auxv = parse_auxv({reinterpret_cast<const char*>(words), sizeof words});
  ASSERT_EQ(auxv.size(), 2u);
  EXPECT_EQ(auxv[1].second, 0x99u);
  EXPECT_TRUE(parse_auxv("short").empty());
}

Mapping mapping(std::string_view permissions, std::string path, std::uint64_t size_bytes) {
  Mapping result;
  result.start = 0x10000;
  result.end = 0x10000 + size_bytes;
  result.path = std::move(path);
  result.readable = permissions[0] == 'r';
  result.writable = permissions[1] == 'w';
  result.executable = permissions[2] == 'x';
  result.shared = permissions[3] == 's';
  return result;
}

TEST(LiveParts, DecidesWhatToCopy) {
  constexpr std::uint64_t kSmall = 4096;
  constexpr std::uint64_t kLarge = std::uint64_t{1} << 30;
  EXPECT_EQ(copy_rule(mapping("rw-p", "", kLarge)), CopyRule::kHeldPages);
  EXPECT_EQ(copy_rule(mapping("rw-p", "[heap]", kLarge)), CopyRule::kHeldPages);
  EXPECT_EQ(copy_rule(mapping("rw-p", "[anon: glibc: malloc arena]", kLarge)), CopyRule::kHeldPages);
  EXPECT_EQ(copy_rule(mapping("r--p", "", kSmall)), CopyRule::kHeldPages);
  EXPECT_EQ(copy_rule(mapping("r--p", "", kLarge)), CopyRule::kNone);
  EXPECT_EQ(copy_rule(mapping("---p", "", kLarge)), CopyRule::kNone);
  EXPECT_EQ(copy_rule(mapping("rw-s", "/memfd:x (deleted)", kSmall)), CopyRule::kNone);
  EXPECT_EQ(copy_rule(mapping("rw-p", "/usr/lib/libc.so.6", kSmall)), CopyRule::kWhole);
  EXPECT_EQ(copy_rule(mapping("rw-p", "/data/table", kLarge)), CopyRule::kWrittenPages);
  EXPECT_EQ(copy_rule(mapping("r--p", "/usr/lib/libc.so.6", kSmall)), CopyRule::kWrittenPages);
  EXPECT_EQ(copy_rule(mapping("rw-p", "/dev/nvidia0", kSmall)), CopyRule::kNone);
  EXPECT_EQ(copy_rule(mapping("r--p", "[vvar]", kSmall)), CopyRule::kNone);
  EXPECT_EQ(copy_rule(mapping("r-xp", "[vdso]", kSmall)), CopyRule::kWhole);
}

TEST(LiveParts, BothWaysToReadThePageMapAgree) {
  constexpr std::uint64_t kPages = 100'000;
  Child child([](Shared& shared) {
    auto* memory = static_cast<std::byte*>(::mmap(nullptr, kPages * kPageBytes, PROT_READ | PROT_WRITE,
                                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    ::madvise(memory, kPages * kPageBytes, MADV_NOHUGEPAGE);
    for (std::uint64_t i = 0; i < kPages; i += 1 + i % 7) memory[i * kPageBytes] = std::byte{1};
    shared.addresses[0] = reinterpret_cast<std::uintptr_t>(memory);
    sleep_for_ever(shared);
    return 0;
  });
  ASSERT_TRUE(child.wait_ready());
  const auto proc = ProcDir::open(child.pid());
  ASSERT_TRUE(proc);
  const Addr start = child.shared().addresses[0];
  std::vector<AddrRange> expected;
  for (std::uint64_t i = 0; i < kPages; i += 1 + i % 7) {
    append_run(expected, {start + i * kPageBytes, start + (i + 1) * kPageBytes});
  }
  for (const auto method : {PageMap::Method::kScan, PageMap::Method::kEntries}) {
    const PageMap pages(*proc, child.pid(), method);
    for (const auto want : {PageMap::Want::kHeld, PageMap::Want::kAnonymous, PageMap::Want::kInMemory}) {
      std::vector<AddrRange> runs;
      ASSERT_TRUE(pages.find({start, start + kPages * kPageBytes}, want, runs));
      EXPECT_EQ(runs, expected);
    }
  }
}

TEST(LiveParts, HostMemoryMirrorsTheTarget) {
  constexpr Addr kLow = 0x550000000000;
  constexpr Addr kHigh = 0x7f0000000000;
  const std::vector<AddrRange> runs = {{kLow, kLow + 0x5000}, {kLow + 0x9000, kLow + 0xa000}, {kHigh, kHigh + 0x2000}};
  HostMemory host;
  ASSERT_TRUE(host.reserve(runs).ok());
  EXPECT_EQ(host.regions().size(), 2u);
  EXPECT_EQ(host.host(kLow + 0x9000) - host.host(kLow), 0x9000);
  EXPECT_TRUE(host.fault_in(runs, Progress::none()).ok());
  EXPECT_EQ(host.missing_bytes(runs), 0u);
  // Growth next to what was there has its place; new memory elsewhere gets one.
  const std::vector<AddrRange> later = {{kLow - 0x1000, kLow + 0x20000},
                                        {0x600000000000, 0x600000003000},
                                        {0x600000008000, 0x600000009000},
                                        {kHigh, kHigh + 0x100000}};
  EXPECT_EQ(host.missing_bytes(later), 0x4000u);
  ASSERT_TRUE(host.reserve_missing(later).ok());
  EXPECT_EQ(host.missing_bytes(later), 0u);
  EXPECT_EQ(host.regions().size(), 3u);
  EXPECT_EQ(host.host(0x600000008000) - host.host(0x600000000000), 0x8000);
}

TEST(LiveParts, WhatCannotBeReadIsNotDumped) {
  constexpr std::uint64_t kPages = 16;
  Child child([](Shared& shared) {
    auto* memory = static_cast<std::byte*>(
        ::mmap(nullptr, kPages * kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    std::memset(memory, 9, kPages * kPageBytes);
    ::mprotect(memory + 3 * kPageBytes, 2 * kPageBytes, PROT_NONE);
    shared.addresses[0] = reinterpret_cast<std::uintptr_t>(memory);
    sleep_for_ever(shared);
    return 0;
  });
  ASSERT_TRUE(child.wait_ready());
  const Addr start = child.shared().addresses[0];
  CopyPlan plan;
  plan.mappings.push_back(mapping("rw-p", "", kPages * kPageBytes));
  plan.mappings[0].start = start;
  plan.mappings[0].end = start + kPages * kPageBytes;
  plan.rules.push_back(CopyRule::kHeldPages);
  plan.runs.push_back({start, start + kPages * kPageBytes});
  HostMemory host;
  ASSERT_TRUE(host.reserve(plan.runs).ok());
  const CopyResult copied = copy_runs(child.pid(), plan.runs, host);
  EXPECT_FALSE(copied.gone);
  ASSERT_EQ(copied.unreadable.size(), 1u);
  EXPECT_EQ(copied.unreadable[0], (AddrRange{start + 3 * kPageBytes, start + 5 * kPageBytes}));
  AddressSpace space;
  EXPECT_EQ(space.assign(copied_segments(plan, host, copied.unreadable)), 0u);
  EXPECT_EQ(space.state(start + 2 * kPageBytes), ByteState::kPresent);
  EXPECT_EQ(space.state(start + 3 * kPageBytes), ByteState::kNotDumped);
  EXPECT_EQ(space.state(start + 4 * kPageBytes), ByteState::kNotDumped);
  EXPECT_EQ(space.state(start + 5 * kPageBytes), ByteState::kPresent);
  EXPECT_EQ(Reader(space).load<std::uint8_t>(start + 15 * kPageBytes), 9);
}

}  // namespace
}  // namespace heapcore::live
