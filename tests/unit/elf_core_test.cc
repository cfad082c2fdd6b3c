// open_core() on synthesised cores: every byte must be what the test put there, or be known to be missing.
#include <elf.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <string>

#include "core_builder.h"
#include "coreparse/snapshot.h"

namespace heapcore {
namespace {

using testing::Bytes;
using testing::CoreBuilder;
using testing::pattern;
using testing::TempFile;

constexpr std::uint64_t kPage = 4096;

Result<Snapshot> open_bytes(std::string_view bytes) {
  const TempFile file(bytes);
  return open_core(file.path(), {}, Progress::none());
}

ErrorCode refusal(std::string_view bytes) {
  const Result<Snapshot> snapshot = open_bytes(bytes);
  EXPECT_FALSE(snapshot.ok());
  if (snapshot) return ErrorCode::kIo;
  EXPECT_FALSE(snapshot.error().message.empty());
  EXPECT_FALSE(snapshot.error().hint.empty()) << snapshot.error().message;
  return snapshot.error().code;
}

std::string memory(const Snapshot& snapshot, Addr address, std::size_t n) {
  std::string text(n, '\0');
  Reader reader(snapshot.space);
  return reader.read(address, {reinterpret_cast<std::byte*>(text.data()), n}) ? text : "(not there)";
}

void expect_states(const Snapshot& snapshot, AddrRange range, ByteState state) {
  for (Addr at = range.start; at < range.end; ++at) ASSERT_EQ(snapshot.space.state(at), state) << std::hex << at;
}

// What snapshot.h promises.
void expect_invariants(const Snapshot& snapshot) {
  Addr covered = 0;
  std::uint64_t mapped = 0;
  for (const Mapping& mapping : snapshot.mappings) {
    ASSERT_LT(mapping.start, mapping.end);
    ASSERT_GE(mapping.start, covered);
    covered = mapping.end;
    mapped += mapping.size_bytes();
  }
  ASSERT_EQ(snapshot.mapped_bytes(), mapped);
  std::uint64_t in_segments = 0;
  std::uint64_t not_dumped = 0;
  covered = 0;
  for (const Segment& segment : snapshot.space.segments()) {
    ASSERT_LT(segment.start, segment.end);
    ASSERT_GE(segment.start, covered);
    covered = segment.end;
    in_segments += segment.size_bytes();
    if (segment.state == ByteState::kNotDumped) not_dumped += segment.size_bytes();
    ASSERT_NE(snapshot.mapping_at(segment.start), nullptr);
    ASSERT_NE(snapshot.mapping_at(segment.end - 1), nullptr);
  }
  ASSERT_EQ(in_segments, mapped);
  for (const Mapping& mapping : snapshot.mappings) not_dumped -= mapping.not_dumped_bytes;
  ASSERT_EQ(not_dumped, 0U);
}

TEST(ElfCore, KnowsTheStateOfEveryByte) {
  const Bytes a = pattern(2 * kPage, 1);
  const Bytes b = pattern(kPage, 2);
  const Bytes c = pattern(100, 3);
  CoreBuilder core;
  core.thread(7).files({{0x900000, 0x901000, 0, "/nowhere/data"}});
  core.load(0x10000, a).load(0x12000, b, 3 * kPage).load(0x20000, "", 2 * kPage).load(0x30000, c);
  const Result<Snapshot> snapshot = open_bytes(core.bytes());
  ASSERT_TRUE(snapshot);
  expect_invariants(*snapshot);
  expect_states(*snapshot, {0xff00, 0x10000}, ByteState::kUnmapped);
  expect_states(*snapshot, {0x10000, 0x13000}, ByteState::kPresent);
  expect_states(*snapshot, {0x13000, 0x15000}, ByteState::kNotDumped);
  expect_states(*snapshot, {0x15000, 0x20000}, ByteState::kUnmapped);
  expect_states(*snapshot, {0x20000, 0x22000}, ByteState::kNotDumped);
  expect_states(*snapshot, {0x22000, 0x22100}, ByteState::kUnmapped);
  expect_states(*snapshot, {0x30000, 0x30064}, ByteState::kPresent);
  expect_states(*snapshot, {0x30064, 0x31000}, ByteState::kUnmapped);
  expect_states(*snapshot, {0x900000, 0x901000}, ByteState::kNotDumped);
  EXPECT_TRUE(memory(*snapshot, 0x10000, 3 * kPage) == a + b);
  EXPECT_EQ(memory(*snapshot, 0x30000, 100), c);
  EXPECT_EQ(memory(*snapshot, 0x12fff, 2), "(not there)");
  EXPECT_EQ(snapshot->mapped_bytes(), 8 * kPage + 100);
  EXPECT_FALSE(snapshot->findings.incomplete());
  ASSERT_NE(snapshot->mapping_at(0x14000), nullptr);
  EXPECT_EQ(snapshot->mapping_at(0x14000)->not_dumped_bytes, 2 * kPage);
  EXPECT_EQ(snapshot->mapping_at(0x15000), nullptr);
}

TEST(ElfCore, ReadsAcrossSegments) {
  const Bytes a = pattern(kPage, 4) + "text that goes ";
  const Bytes b = Bytes("on\0", 3) + pattern(50, 5);
  CoreBuilder core;
  // Neighbours in memory, but a page's rest lies between them in the file.
  core.load(0x10000, a).load(0x10000 + a.size(), b);
  const Result<Snapshot> snapshot = open_bytes(core.bytes());
  ASSERT_TRUE(snapshot);
  const Addr seam = 0x10000 + a.size();
  EXPECT_EQ(memory(*snapshot, 0x10000, a.size() + b.size()), a + b);
  Reader reader(snapshot->space);
  EXPECT_EQ(reader.c_string(0x10000 + kPage), "text that goes on");
  EXPECT_EQ(reader.span(seam - 8, 8).size(), 8U);
  EXPECT_TRUE(reader.span(seam - 8, 9).empty());
  EXPECT_EQ(reader.span(seam, b.size()).size(), b.size());
  ASSERT_TRUE(reader.load<std::uint32_t>(seam - 2));
  EXPECT_EQ(testing::bytes_of(*reader.load<std::uint32_t>(seam - 2)), "s on");
}

TEST(ElfCore, PermissionsComeFromTheProgramHeaders) {
  CoreBuilder core;
  core.load(0x1000, "a", kPage, PF_R).load(0x2000, "b", kPage, PF_R | PF_X).load(0x3000, "c", kPage, PF_R | PF_W);
  core.load(0x4000, "", kPage, 0);
  const Result<Snapshot> snapshot = open_bytes(core.bytes());
  ASSERT_TRUE(snapshot);
  std::string found;
  for (const Mapping& m : snapshot->mappings) {
    found += std::string(m.readable ? "r" : "-") + (m.writable ? "w" : "-") + (m.executable ? "x " : "- ");
  }
  EXPECT_EQ(found, "r-- r-x rw- --- ");
}

class TruncatedCore : public ::testing::TestWithParam<bool> {};

TEST_P(TruncatedCore, AnswersWithWhatIsLeftAtAnyLength) {
  const std::map<Addr, Bytes> contents = {
      {0x10000, pattern(kPage + 100, 1)}, {0x20000, pattern(kPage, 2)}, {0x40000, "end"}};
  CoreBuilder core;
  core.notes_first = GetParam();
  core.thread(7).files({{0x900000, 0x901000, 0, "/nowhere/data"}});
  for (const auto& [start, bytes] : contents) core.load(start, bytes, 2 * kPage);
  const Bytes whole = core.bytes();
  const std::size_t first_answer = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr);  // a note's and a segment's header
  const std::size_t headers_end = sizeof(Elf64_Ehdr) + core.header_count() * sizeof(Elf64_Phdr);
  const TempFile file(whole);
  for (std::size_t n = whole.size(); n-- > 0;) {
    // Every byte of the headers, the notes and the last page; elsewhere a page is cut in many places.
    if (n > headers_end + 1200 && n + 3000 < whole.size() && n % 61 != 0 && n % kPage > 1) continue;
    SCOPED_TRACE(n);
    ASSERT_EQ(::truncate(file.path().c_str(), static_cast<off_t>(n)), 0);
    const Result<Snapshot> snapshot = open_core(file.path(), {}, Progress::none());
    ASSERT_EQ(snapshot.ok(), n >= first_answer);
    if (!snapshot) {
      EXPECT_EQ(snapshot.error().code, ErrorCode::kNotACore);
      continue;
    }
    expect_invariants(*snapshot);
    EXPECT_EQ(snapshot->findings.count("core-truncated"), 1U);
    EXPECT_EQ(snapshot->findings.count("core-headers-truncated"), n < headers_end ? 1U : 0U);
    EXPECT_TRUE(snapshot->findings.incomplete());
    std::size_t index = 0;
    for (const auto& [start, bytes] : contents) {
      const std::size_t offset = core.load_offset(index);
      const bool known = n >= sizeof(Elf64_Ehdr) + (index + 2) * sizeof(Elf64_Phdr);
      const std::size_t present = known && n > offset ? std::min(bytes.size(), n - offset) : 0;
      if (present != 0) {
        ASSERT_TRUE(memory(*snapshot, start, present) == bytes.substr(0, present));
      }
      ASSERT_EQ(snapshot->space.state(start + present), known ? ByteState::kNotDumped : ByteState::kUnmapped);
      ASSERT_EQ(snapshot->space.state(start + 2 * kPage - 1), known ? ByteState::kNotDumped : ByteState::kUnmapped);
      ++index;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(NotesFirstOrLast, TruncatedCore, ::testing::Bool());

class ManyHeaders : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    core_.notes_first = GetParam();
    core_.thread(7).padding_headers(65530);
    for (std::size_t i = 0; i < kLoads; ++i) core_.load(0x100000 + i * 0x2000, i % 50 == 0 ? content(i) : "", kPage);
    whole_ = core_.bytes();
  }
  static Bytes content(std::size_t i) {
    // Memory that looks like program headers.
    const Elf64_Phdr decoy{PT_LOAD, PF_R, 0, 0x500000000000 + i * kPage, 0, 8, kPage, kPage};
    Bytes bytes;
    while (bytes.size() + sizeof decoy <= kPage) bytes += testing::bytes_of(decoy);
    return bytes;
  }
  void expect_all(const Snapshot& snapshot) const {
    expect_invariants(snapshot);
    EXPECT_EQ(snapshot.mapped_bytes(), kLoads * kPage);
    for (std::size_t i = 0; i < kLoads; i += 50) {
      ASSERT_TRUE(memory(snapshot, 0x100000 + i * 0x2000, content(i).size()) == content(i)) << i;
    }
  }

  static constexpr std::size_t kLoads = 4000;
  CoreBuilder core_;
  Bytes whole_;
};

TEST_P(ManyHeaders, AreCountedInSectionHeaderZero) {
  const Result<Snapshot> snapshot = open_bytes(whole_);
  ASSERT_TRUE(snapshot);
  expect_all(*snapshot);
  EXPECT_EQ(snapshot->findings.count("core-headers-truncated"), 0U);
  EXPECT_EQ(snapshot->threads.size(), 1U);
}

TEST_P(ManyHeaders, AreFoundWithTheSectionHeaderCutOff) {
  for (const std::size_t cut : {std::size_t{0}, std::size_t{1}, sizeof(Elf64_Shdr) - 1}) {
    SCOPED_TRACE(cut);
    const Result<Snapshot> snapshot =
        open_bytes(std::string_view(whole_).substr(0, core_.section_header_offset() + cut));
    ASSERT_TRUE(snapshot);
    expect_all(*snapshot);
    EXPECT_EQ(snapshot->findings.count("core-headers-truncated"), 1U);
    EXPECT_EQ(snapshot->threads.size(), 1U);
  }
}

INSTANTIATE_TEST_SUITE_P(NotesFirstOrLast, ManyHeaders, ::testing::Bool());

TEST(ElfCore, TheLowerOfOverlappingSegmentsIsUsed) {
  const Bytes low = pattern(2 * kPage, 1);
  const Bytes high = pattern(2 * kPage, 2);
  CoreBuilder core;
  core.load(0x11000, high).load(0x10000, low).load(0x10800, "inside");
  const Result<Snapshot> snapshot = open_bytes(core.bytes());
  ASSERT_TRUE(snapshot);
  expect_invariants(*snapshot);
  EXPECT_TRUE(memory(*snapshot, 0x10000, 3 * kPage) == low + high.substr(kPage));
  EXPECT_EQ(snapshot->mapped_bytes(), 3 * kPage);
  EXPECT_EQ(snapshot->findings.count("core-segments-overlap"), 1U);
}

TEST(ElfCore, SegmentsThatCannotBeAreLeftOut) {
  CoreBuilder core;
  core.load(0x10000, "good");
  core.load(0xffffffffff600000, "vsyscall", kPage);  // the kernel's half
  core.load(0x7ffffffffffff000, "x", 2 * kPage);     // reaches into it
  core.load(0xfffffffffffff000, "x", 2 * kPage);     // wraps
  core.load(0x20000, "nothing of it is mapped", 0);
  core.load(0x30000, "more in the file than mapped", 4);
  const Result<Snapshot> snapshot = open_bytes(core.bytes());
  ASSERT_TRUE(snapshot);
  expect_invariants(*snapshot);
  EXPECT_EQ(snapshot->mapped_bytes(), 8U);
  EXPECT_EQ(memory(*snapshot, 0x10000, 4), "good");
  EXPECT_EQ(memory(*snapshot, 0x30000, 4), "more");
}

TEST(ElfCore, OffsetsBeyondTheFileAreCountedAsMissing) {
  CoreBuilder core;
  core.load(0x10000, "good").load(0x20000, "bad", kPage);
  for (const std::uint64_t offset : {std::uint64_t{1} << 40, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    Bytes bytes = core.bytes();
    std::memcpy(bytes.data() + sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, p_offset), &offset,
                8);
    const Result<Snapshot> snapshot = open_bytes(bytes);
    ASSERT_TRUE(snapshot);
    expect_invariants(*snapshot);
    EXPECT_EQ(snapshot->space.state(0x20000), ByteState::kNotDumped);
    ASSERT_EQ(snapshot->findings.count("core-truncated"), 1U);
  }
}

TEST(ElfCore, RefusesWhatIsNoCore) {
  EXPECT_EQ(refusal(""), ErrorCode::kNotACore);
  EXPECT_EQ(refusal("#!/bin/sh\n"), ErrorCode::kNotACore);
  EXPECT_EQ(refusal("\x7f"
                    "ELF"),
            ErrorCode::kNotACore);
  CoreBuilder core;
  EXPECT_EQ(refusal(core.bytes()), ErrorCode::kNotACore);  // no memory in it
  core.load(0x1000, "x");
  for (const int type : {ET_REL, ET_EXEC, ET_DYN, 77}) {
    core.type = static_cast<Elf64_Half>(type);
    EXPECT_EQ(refusal(core.bytes()), ErrorCode::kNotACore) << type;
  }
  core.type = ET_CORE;
  ASSERT_TRUE(open_bytes(core.bytes()));
}

TEST(ElfCore, RefusesOtherArchitecturesByName) {
  CoreBuilder core;
  core.load(0x1000, "x");
  const Bytes good = core.bytes();
  for (const auto& [machine, name] : std::map<Elf64_Half, std::string>{{EM_AARCH64, "64-bit little-endian aarch64"},
                                                                       {EM_RISCV, "64-bit little-endian riscv"},
                                                                       {999, "unknown machine"}}) {
    core.machine = machine;
    const Result<Snapshot> snapshot = open_bytes(core.bytes());
    ASSERT_FALSE(snapshot);
    EXPECT_EQ(snapshot.error().code, ErrorCode::kWrongArchitecture);
    EXPECT_NE(snapshot.error().message.find(name), std::string::npos) << snapshot.error().message;
  }
  Bytes narrow = good;
  narrow[EI_CLASS] = ELFCLASS32;
  EXPECT_EQ(refusal(narrow), ErrorCode::kWrongArchitecture);
  Bytes big_endian = good;
  big_endian[EI_DATA] = ELFDATA2MSB;
  big_endian[offsetof(Elf64_Ehdr, e_machine)] = 0;
  big_endian[offsetof(Elf64_Ehdr, e_machine) + 1] = EM_S390;
  EXPECT_EQ(refusal(big_endian), ErrorCode::kWrongArchitecture);
  const Result<Snapshot> s390 = open_bytes(big_endian);
  EXPECT_NE(s390.error().message.find("big-endian"), std::string::npos) << s390.error().message;
}

TEST(ElfCore, RefusesWhatIsNoFile) {
  const auto code_of = [](const std::string& path) {
    const Result<Snapshot> snapshot = open_core(path, {}, Progress::none());
    EXPECT_FALSE(snapshot);
    return snapshot ? ErrorCode::kUsage : snapshot.error().code;
  };
  EXPECT_EQ(code_of("/nonexistent/core"), ErrorCode::kNotFound);
  EXPECT_EQ(code_of("/tmp"), ErrorCode::kNotACore);
  EXPECT_EQ(code_of("/dev/null"), ErrorCode::kNotACore);
  const TempFile place;
  const std::string fifo = place.path() + ".fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(code_of(fifo), ErrorCode::kNotACore);  // and does not wait for a writer
  ::unlink(fifo.c_str());
  CoreBuilder core;
  core.load(0x1000, "x");
  const TempFile secret(core.bytes());
  ASSERT_EQ(::chmod(secret.path().c_str(), 0), 0);
  if (::geteuid() != 0) {
    EXPECT_EQ(code_of(secret.path()), ErrorCode::kNotPermitted);
  }
}

TEST(ElfCore, ReadsNotesNoMoreOftenThanTheFileHasBytes) {
  constexpr std::size_t kHeaders = 4000;
  constexpr std::int32_t kThreads = 100;
  constexpr std::size_t kNoteBytes = 12 + 8 + 336;  // an NT_PRSTATUS of x86-64
  CoreBuilder core;
  core.load(kPage, Bytes(kPage, '\0')).padding_headers(kHeaders);
  for (std::int32_t tid = 1; tid <= kThreads; ++tid) core.thread(tid);
  Bytes file = core.bytes();
  const Bytes to_notes = file.substr(sizeof(Elf64_Ehdr), sizeof(Elf64_Phdr));
  for (std::size_t i = 1; i <= kHeaders; ++i)
    file.replace(sizeof(Elf64_Ehdr) + i * sizeof(Elf64_Phdr), sizeof(Elf64_Phdr), to_notes);
  const Result<Snapshot> snapshot = open_bytes(file);
  ASSERT_TRUE(snapshot);
  EXPECT_GE(snapshot->threads.size(), 100U);
  EXPECT_LE(snapshot->threads.size(), file.size() / kNoteBytes);
}

TEST(ElfCore, BelievesNoMappedFileThatReachesIntoAnother) {
  CoreBuilder core;
  core.load(0x400000, Bytes(kPage, 'x'));
  core.files({{8, 0x900000, 0, "/lib/everything.so"}, {0x400000, 0x401000, 0, "/bin/program"}});
  const Result<Snapshot> snapshot = open_bytes(core.bytes());
  ASSERT_TRUE(snapshot);
  ASSERT_EQ(snapshot->mappings.size(), 1U);
  EXPECT_EQ(snapshot->mappings.front().path, "/bin/program");
  EXPECT_EQ(snapshot->findings.count("core-notes-damaged"), 1U);
}

}  // namespace
}  // namespace heapcore
