// Cores that heapcore writes, read back by heapcore; and those that only say that heapcore wrote them.
#include "coreparse/core_head.h"

#include <gtest/gtest.h>

#include "core_builder.h"
#include "coreparse/capture.h"
#include "coreparse/core_sink.h"
#include "coreparse/elf_core.h"
#include "coreparse/stored_files.h"

namespace heapcore {
namespace {

using testing::TempFile;

constexpr std::uint64_t kPage = 4096;
constexpr Addr kBase = 0x7f0000000000;

Snapshot subject() {
  Snapshot snapshot;
  snapshot.info.pid = 77;
  snapshot.info.command = "worker --all";
  for (const std::int32_t tid : {77, 78}) {
    Thread thread;
    thread.tid = tid;
    thread.name = tid == 77 ? "main" : "other";
    thread.user_regs[16] = 0x1000u + static_cast<unsigned>(tid);
    snapshot.threads.push_back(thread);
  }
  snapshot.auxv = {{6, 4096}};
  return snapshot;
}

Mapping mapping(Addr start, std::uint64_t pages, const std::string& path = "") {
  Mapping result;
  result.start = start;
  result.end = start + pages * kPage;
  result.path = path;
  result.readable = result.writable = true;
  return result;
}

CorePart part(Addr start, std::uint64_t pages, PartState state, bool late = false) {
  return {{start, start + pages * kPage}, state, late, 6};
}

// A core of these mappings and parts; each page of memory begins with its own address.
std::string make_core(const Snapshot& snapshot, const std::vector<CorePart>& parts,
                      const std::vector<AddrRange>& unreadable = {}) {
  const CoreHead head = make_core_head(snapshot, parts);
  std::string core = head.bytes;
  for (const bool late : {false, true}) {
    for (const CorePart& p : parts) {
      if (p.state != PartState::kStored || p.late != late) continue;
      for (Addr at = p.range.start; at < p.range.end; at += kPage) {
        std::string page(kPage, '\0');
        std::memcpy(page.data(), &at, sizeof at);
        core += page;
      }
    }
  }
  core += make_core_tail(unreadable);
  EXPECT_EQ(core.size(), head.file_bytes);
  return core;
}

Result<Snapshot> read(const std::string& core) {
  const TempFile file(core);
  return open_core(file.path(), {}, Progress::none());
}

TEST(CoreHead, ComesBackAsItWent) {
  Snapshot snapshot = subject();
  snapshot.mappings = {mapping(kBase, 8, "[heap]"), mapping(kBase + 16 * kPage, 2, "/tmp/with\nline"),
                       mapping(kBase + 32 * kPage, 2)};
  snapshot.mappings[1].shared = true;
  snapshot.mappings[1].file_offset = 3 * kPage;
  const Result<Snapshot> back =
      read(make_core(snapshot,
                     {part(kBase, 2, PartState::kStored), part(kBase + 2 * kPage, 4, PartState::kZero),
                      part(kBase + 6 * kPage, 2, PartState::kStored, true),
                      part(kBase + 16 * kPage, 2, PartState::kAbsent), part(kBase + 32 * kPage, 2, PartState::kStored)},
                     {{kBase + 7 * kPage, kBase + 8 * kPage}}));
  ASSERT_TRUE(back.ok()) << back.error().message;
  ASSERT_EQ(back->mappings.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(back->mappings[i].start, snapshot.mappings[i].start);
    EXPECT_EQ(back->mappings[i].end, snapshot.mappings[i].end);
    EXPECT_EQ(back->mappings[i].path, snapshot.mappings[i].path);
    EXPECT_EQ(back->mappings[i].shared, snapshot.mappings[i].shared);
    EXPECT_EQ(back->mappings[i].file_offset, snapshot.mappings[i].file_offset);
  }
  EXPECT_EQ(back->info.pid, 77);
  EXPECT_EQ(back->info.command, "worker --all");
  ASSERT_EQ(back->threads.size(), 2u);
  EXPECT_EQ(back->threads[1].name, "other");
  EXPECT_EQ(back->threads[1].pc, 0x1000u + 78);
  Reader reader(back->space);
  EXPECT_EQ(reader.load<Addr>(kBase + kPage), kBase + kPage);
  EXPECT_EQ(reader.load<Addr>(kBase + 3 * kPage), 0u);
  EXPECT_EQ(reader.load<Addr>(kBase + 6 * kPage), kBase + 6 * kPage);
  EXPECT_EQ(reader.load<Addr>(kBase + 32 * kPage), kBase + 32 * kPage);
  EXPECT_EQ(back->space.state(kBase + 7 * kPage), ByteState::kNotDumped);
  EXPECT_EQ(back->space.state(kBase + 16 * kPage), ByteState::kNotDumped);
  EXPECT_EQ(back->mappings[0].not_dumped_bytes, kPage);
}

TEST(CoreHead, MoreSegmentsThanTheHeaderCanCount) {
  constexpr std::uint64_t kSegments = 70'000;
  Snapshot snapshot = subject();
  snapshot.mappings = {mapping(kBase, 2 * kSegments)};
  std::vector<CorePart> parts;
  for (std::uint64_t i = 0; i < kSegments; ++i) {
    parts.push_back(part(kBase + 2 * i * kPage, 1, i % 1000 == 0 ? PartState::kStored : PartState::kAbsent));
    parts.push_back(part(kBase + (2 * i + 1) * kPage, 1, PartState::kZero));
  }
  const Result<Snapshot> back = read(make_core(snapshot, parts));
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_TRUE(back->findings.kept().empty());
  ASSERT_EQ(back->mappings.size(), 1u);
  EXPECT_EQ(Reader(back->space).load<Addr>(kBase + 138'000 * kPage), kBase + 138'000 * kPage);
  EXPECT_EQ(back->space.state(kBase + 139'999 * kPage), ByteState::kZeroFill);
}

TEST(CoreHead, ManyUnreadablePlacesEndInOne) {
  std::vector<AddrRange> unreadable;
  for (std::uint64_t i = 0; i < 1000; ++i) unreadable.push_back({kBase + 2 * i * kPage, kBase + (2 * i + 1) * kPage});
  EXPECT_EQ(make_core_tail(unreadable).size(), make_core_tail({}).size());
  Snapshot snapshot = subject();
  snapshot.mappings = {mapping(kBase, 2000)};
  const Result<Snapshot> back = read(make_core(snapshot, {part(kBase, 2000, PartState::kStored)}, unreadable));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->space.state(kBase + kPage), ByteState::kPresent);
  EXPECT_EQ(back->space.state(kBase + 2 * kPage), ByteState::kNotDumped);
  EXPECT_EQ(back->space.state(kBase + 1998 * kPage), ByteState::kNotDumped);
  EXPECT_EQ(back->space.state(kBase + 1999 * kPage), ByteState::kPresent);
}

TEST(CoreHead, AListOfMappingsThatDoesNotFitIsNotUsed) {
  Snapshot snapshot = subject();
  snapshot.mappings = {mapping(kBase, 2)};
  for (const CorePart& odd :
       {part(kBase + kPage, 3, PartState::kStored), part(kBase + 100 * kPage, 1, PartState::kZero)}) {
    const Result<Snapshot> back = read(make_core(snapshot, {odd}));
    ASSERT_TRUE(back.ok());
    EXPECT_EQ(back->findings.count("core-maps-disagree"), 1u);
    ASSERT_EQ(back->mappings.size(), 1u);
    EXPECT_EQ(back->mappings[0].start, odd.range.start);
    EXPECT_EQ(back->mappings[0].end, odd.range.end);
  }
}

TEST(CoreSink, HolesAndLimits) {
  const TempFile file;
  const int fd = ::open(file.path().c_str(), O_RDWR | O_TRUNC);
  ASSERT_GE(fd, 0);
  const SinkOptions options = {"a file", false, 3 * kPage};
  Result<std::unique_ptr<CoreSink>> sink = make_core_sink(fd, options);
  ASSERT_TRUE(sink.ok());
  std::vector<std::byte> bytes(4 * kPage);
  bytes[kPage] = std::byte{1};
  ASSERT_TRUE((*sink)->write(bytes).ok());
  ASSERT_TRUE((*sink)->zeros(1'000'000 * kPage).ok());
  EXPECT_EQ((*sink)->stored_bytes(), kPage);
  std::fill(bytes.begin(), bytes.end(), std::byte{2});
  const Status refused = (*sink)->write(bytes);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().message, "a file would take more than the 12288 bytes allowed");
  ASSERT_TRUE((*sink)->finish().ok());
  EXPECT_EQ(::lseek(fd, 0, SEEK_END), static_cast<off_t>(1'000'004 * kPage));
  ::close(fd);
}

TEST(StoredFiles, SmallProgramsWholeLargeOnesNot) {
  std::vector<Mapping> mappings = {mapping(kBase, 10, "/bin/small"), mapping(kBase + 10 * kPage, 10, "/bin/small"),
                                   mapping(kBase + 20 * kPage, 20'000, "/lib/large"),
                                   mapping(kBase + 30'000 * kPage, 1, "/data")};
  for (Mapping& m : mappings) m.writable = false;
  mappings[0].executable = mappings[2].executable = true;
  EXPECT_EQ(files_to_store(mappings), (std::vector<bool>{true, true, false, false}));
  mappings[1].writable = true;
  EXPECT_FALSE(files_to_store(mappings)[1]);
}

}  // namespace
}  // namespace heapcore
