// A core's notes: threads, process, auxiliary vector and the list of mapped files, also damaged ones.
#include "coreparse/notes.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>

#include "core_builder.h"
#include "coreparse/snapshot.h"

namespace heapcore {
namespace {

using testing::Bytes;
using testing::CoreBuilder;
using testing::FileEntry;
using testing::TempFile;

constexpr std::uint64_t kPage = 4096;

// In storage of exactly its size, so that a sanitizer sees a read beyond the end.
CoreNotes notes_of(std::uint32_t type, std::string_view description, std::string_view owner = "CORE") {
  const auto exact = std::make_unique<std::byte[]>(description.size());
  std::memcpy(exact.get(), description.data(), description.size());
  CoreNotes out;
  read_core_note(owner, type, {exact.get(), description.size()}, out);
  return out;
}

user_regs_struct registers(std::uint64_t seed) {
  user_regs_struct regs{};
  regs.rip = seed + 1;
  regs.rsp = seed + 2;
  regs.fs_base = seed + 3;
  regs.rax = seed + 4;
  regs.gs = seed + 5;
  return regs;
}

Result<Snapshot> open_built(CoreBuilder& core) {
  const TempFile file(core.bytes());
  return open_core(file.path(), {}, Progress::none());
}

TEST(Notes, OfAWholeProcess) {
  CoreBuilder core;
  core.thread(4711, registers(100), 11);
  core.add_note("CORE", NT_PRPSINFO, testing::prpsinfo(4700, "worker", "/usr/bin/worker --all  "));
  core.add_note("CORE", NT_SIGINFO, Bytes("\x06\0\0\0", 4) + Bytes(124, '\0'));
  core.add_note("CORE", NT_AUXV, testing::auxv({{AT_PAGESZ, 4096}, {AT_PHDR, 0x400040}, {AT_RANDOM, 0x7ffc0000}}));
  core.files({{0x10000, 0x11000, 0, "/lib/a.so"}});
  core.add_note("LINUX", 0x205, Bytes(64, '\x5a'));  // kernels since 6.12 write one of the vector state's layout
  core.add_note("CORE", NT_FPREGSET, Bytes(512, '\1'));
  core.add_note("LINUX", NT_X86_XSTATE, Bytes(2696, '\2'));
  core.thread(4712, registers(200)).thread(4713, registers(300));
  core.load(0x10000, "x", kPage);
  const Result<Snapshot> snapshot = open_built(core);
  ASSERT_TRUE(snapshot);
  EXPECT_EQ(snapshot->info.pid, 4700);
  EXPECT_EQ(snapshot->info.signal, 6);
  EXPECT_EQ(snapshot->info.command, "/usr/bin/worker --all");
  EXPECT_EQ(snapshot->info.architecture, "x86_64");
  EXPECT_EQ(snapshot->info.kind, TargetKind::kCore);
  ASSERT_EQ(snapshot->threads.size(), 3U);
  EXPECT_EQ(snapshot->threads[0].name, "worker");
  std::uint64_t seed = 100;
  for (const Thread& thread : snapshot->threads) {
    const user_regs_struct regs = registers(seed);
    EXPECT_EQ(thread.tid, 4710 + static_cast<std::int32_t>(seed / 100));
    EXPECT_EQ(thread.pc, regs.rip);
    EXPECT_EQ(thread.sp, regs.rsp);
    EXPECT_EQ(thread.thread_pointer, regs.fs_base);
    EXPECT_EQ(std::memcmp(thread.user_regs.data(), &regs, sizeof regs), 0);
    seed += 100;
  }
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> auxv = {
      {AT_PAGESZ, 4096}, {AT_PHDR, 0x400040}, {AT_RANDOM, 0x7ffc0000}};
  EXPECT_EQ(snapshot->auxv, auxv);
  EXPECT_FALSE(snapshot->findings.incomplete());
}

TEST(Notes, TheirAbsenceIsAFinding) {
  CoreBuilder core;
  core.load(0x10000, "x");
  const Result<Snapshot> bare = open_built(core);
  ASSERT_TRUE(bare);
  EXPECT_EQ(bare->info.pid, 0);
  EXPECT_EQ(bare->findings.count("core-no-threads"), 1U);
  EXPECT_EQ(bare->findings.count("core-no-file-list"), 1U);

  core.thread(55, {}, 9);
  const Result<Snapshot> one_thread = open_built(core);
  ASSERT_TRUE(one_thread);
  EXPECT_EQ(one_thread->info.pid, 55);
  EXPECT_EQ(one_thread->info.signal, 9);
  EXPECT_EQ(one_thread->findings.count("core-no-threads"), 0U);
}

TEST(Notes, OfOtherOwnersAreNotTaken) {
  EXPECT_TRUE(notes_of(NT_PRSTATUS, testing::prstatus(1, {}, 0), "LINUX").threads.empty());
  EXPECT_TRUE(notes_of(NT_PRSTATUS, testing::prstatus(1, {}, 0), "CORE2").threads.empty());
  EXPECT_EQ(notes_of(NT_PRSTATUS, testing::prstatus(1, {}, 0)).threads.size(), 1U);
}

TEST(Notes, CutShortSayWhatTheyStillCan) {
  const Bytes status = testing::prstatus(1, registers(1), 0);
  const Bytes process = testing::prpsinfo(2, "p", "p");
  const Bytes vector = testing::auxv({{6, 4096}, {3, 1}, {25, 2}});
  const Bytes files = testing::mapped_files({{0x1000, 0x2000, 0, "/a"}, {0x3000, 0x4000, 7, "/b"}});
  for (std::size_t n = 0; n < status.size(); ++n)
    ASSERT_TRUE(notes_of(NT_PRSTATUS, status.substr(0, n)).threads.empty());
  for (std::size_t n = 0; n < process.size(); ++n) ASSERT_EQ(notes_of(NT_PRPSINFO, process.substr(0, n)).pid, 0);
  for (std::size_t n = 0; n <= vector.size(); ++n) {
    ASSERT_EQ(notes_of(NT_AUXV, vector.substr(0, n)).auxv.size(), std::min<std::size_t>(n / 16, 3));
  }
  for (std::size_t n = 0; n <= files.size(); ++n) {
    const CoreNotes notes = notes_of(NT_FILE, files.substr(0, n));
    ASSERT_EQ(notes.files.size(), n == files.size() ? 2U : n >= files.size() - 3 ? 1U : 0U) << n;
    if (n >= 16) {
      ASSERT_EQ(notes.cut_short, n < files.size()) << n;
    }
    if (!notes.files.empty()) {
      EXPECT_EQ(notes.files[0].path, "/a");
    }
  }
  for (std::size_t n = 0; n < 4; ++n) ASSERT_EQ(notes_of(NT_SIGINFO, Bytes("\5\0\0\0", 4).substr(0, n)).signal, 0);
}

TEST(Notes, ImpossibleFileCountsAreRefused) {
  Bytes files = testing::mapped_files({{0x1000, 0x2000, 0, "/a"}});
  for (const std::uint64_t count : {std::uint64_t{2}, std::uint64_t{3}, std::uint64_t{1} << 32, ~std::uint64_t{0},
                                    ~std::uint64_t{0} / 24, ~std::uint64_t{0} / 24 + 1, std::uint64_t{1} << 63}) {
    std::memcpy(files.data(), &count, sizeof count);
    const CoreNotes notes = notes_of(NT_FILE, files);
    EXPECT_TRUE(notes.cut_short) << count;
    EXPECT_TRUE(notes.files.empty()) << count;
  }
}

TEST(Notes, FileOffsetsAreInTheNotesOwnPages) {
  Bytes files = testing::mapped_files({{0x10000, 0x20000, 3, "/a"}, {0x30000, 0x30000, 0, "/empty"}});
  const std::uint64_t page_bytes = 65536;
  std::memcpy(files.data() + 8, &page_bytes, sizeof page_bytes);
  const CoreNotes notes = notes_of(NT_FILE, files);
  ASSERT_EQ(notes.files.size(), 1U);
  EXPECT_EQ(notes.files[0].file_offset, 3 * page_bytes);
}

TEST(Notes, RandomBytesDoNoHarm) {
  std::mt19937 random(3);
  for (int round = 0; round < 20000; ++round) {
    Bytes bytes(random() % 400, '\0');
    for (char& c : bytes) c = static_cast<char>(random() % 4 == 0 ? random() : 0);
    for (const std::uint32_t type : {1U, 3U, 6U, 0x46494c45U, 0x53494749U}) notes_of(type, bytes);
  }
}

// A damaged header of one note must not lose what stands before it, nor be followed anywhere.
TEST(Notes, DamagedHeadersEndTheList) {
  CoreBuilder core;
  core.thread(1).thread(2).load(0x10000, "x");
  const Bytes good = core.bytes();
  const std::size_t second = core.notes_offset() + testing::note("CORE", 1, testing::prstatus(1, {}, 0)).size();
  for (const std::size_t field : {0, 4}) {
    for (const std::uint32_t value : {0xffffffffU, 0x7fffffffU, 0xfffffffcU, 4096U}) {
      Bytes bytes = good;
      std::memcpy(bytes.data() + second + field, &value, sizeof value);
      const TempFile file(bytes);
      const Result<Snapshot> snapshot = open_core(file.path(), {}, Progress::none());
      ASSERT_TRUE(snapshot);
      ASSERT_FALSE(snapshot->threads.empty());
      EXPECT_EQ(snapshot->threads[0].tid, 1);
    }
  }
}

std::string listing(const Snapshot& snapshot) {
  std::string text;
  for (const Mapping& m : snapshot.mappings) {
    char line[200];
    std::snprintf(line, sizeof line, "%lx-%lx %lx %s\n", m.start, m.end, m.file_offset, m.path.c_str());
    text += line;
  }
  return text;
}

TEST(MappedFiles, NameSegmentsAndAddWhatOnlyTheyKnow) {
  CoreBuilder core;
  // As gcore does: text that is the file's own is in the list alone.
  core.files({{0x400000, 0x401000, 0, "/bin/program"},
              {0x401000, 0x405000, 1, "/bin/program"},
              {0x405000, 0x406000, 5, "/bin/program"},
              {0x700000, 0x702000, 0, "/lib/part"},
              {0x800000, 0x804000, 2, "/lib/half"}});
  core.load(0x400000, "x", kPage).load(0x405000, "x", kPage).load(0x406000, "bss", 2 * kPage);
  core.load(0x800000, "front", 2 * kPage).load(0x900000, "anonymous", kPage);
  const Result<Snapshot> snapshot = open_built(core);
  ASSERT_TRUE(snapshot);
  EXPECT_EQ(listing(*snapshot),
            "400000-401000 0 /bin/program\n"
            "401000-405000 1000 /bin/program\n"
            "405000-406000 5000 /bin/program\n"
            "406000-408000 0 \n"
            "700000-702000 0 /lib/part\n"
            "800000-802000 2000 /lib/half\n"
            "802000-804000 4000 /lib/half\n"
            "900000-901000 0 \n");
  EXPECT_EQ(snapshot->space.state(0x402000), ByteState::kNotDumped);
  EXPECT_EQ(snapshot->mapping_at(0x402000)->not_dumped_bytes, 4 * kPage);
}

TEST(MappedFiles, InAnyOrderAndOverlapping) {
  CoreBuilder core;
  core.files({{0x30000, 0x31000, 0, "/c"},
              {0x10000, 0x14000, 0, "/a"},
              {0x12000, 0x13000, 9, "/inside"},
              {0x13000, 0x16000, 0, "/b"},
              {0x20000, 0x1f000, 0, "/backwards"}});
  core.load(0x15000, "x", kPage).load(0x30000, "x", kPage);
  const Result<Snapshot> snapshot = open_built(core);
  ASSERT_TRUE(snapshot);
  EXPECT_EQ(listing(*snapshot),
            "12000-13000 9000 /inside\n"
            "13000-15000 0 /b\n"
            "15000-16000 2000 /b\n"
            "30000-31000 0 /c\n");
  EXPECT_EQ(snapshot->findings.count("core-notes-damaged"), 1U);
}

TEST(MappedFiles, TheKernelsOwnMappingsHaveNames) {
  CoreBuilder core;
  core.add_note("CORE", NT_AUXV, testing::auxv({{AT_SYSINFO_EHDR, 0x7fff1000}, {AT_RANDOM, 0x7ffe5678}}));
  core.files({{0x10000, 0x11000, 0, "/a"}});
  core.load(0x7ffe0000, "stack", 0x10000).load(0x7fff1000, "vdso", 2 * kPage).load(0x10000, "x", kPage);
  const Result<Snapshot> snapshot = open_built(core);
  ASSERT_TRUE(snapshot);
  EXPECT_EQ(listing(*snapshot), "10000-11000 0 /a\n7ffe0000-7fff0000 0 [stack]\n7fff1000-7fff3000 0 [vdso]\n");
  EXPECT_TRUE(snapshot->modules.empty() || snapshot->modules.front().path == "/a");
}

}  // namespace
}  // namespace heapcore
