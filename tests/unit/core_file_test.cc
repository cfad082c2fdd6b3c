// Compressed cores: unpacked by what they are, damaged or cut off, and never into more memory than they are worth.
#include "coreparse/core_file.h"

#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>

#include <fstream>
#include <random>
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
constexpr Addr kText = 0x20000;

Bytes compress(std::string_view method, std::string_view bytes) {
  Bytes out;
  archive* writer = archive_write_new();
  if (method == "zstd") archive_write_add_filter_zstd(writer);
  if (method == "lz4") archive_write_add_filter_lz4(writer);
  if (method == "xz") archive_write_add_filter_xz(writer);
  if (method == "gzip") archive_write_add_filter_gzip(writer);
  archive_write_set_format_raw(writer);
  archive_write_set_bytes_in_last_block(writer, 1);  // no padding
  const auto append = [](archive*, void* to, const void* from, std::size_t n) {
    static_cast<Bytes*>(to)->append(static_cast<const char*>(from), n);
    return static_cast<la_ssize_t>(n);
  };
  archive_write_open(writer, &out, nullptr, append, nullptr);
  archive_entry* entry = archive_entry_new();
  archive_entry_set_filetype(entry, AE_IFREG);
  archive_write_header(writer, entry);
  EXPECT_EQ(archive_write_data(writer, bytes.data(), bytes.size()), static_cast<la_ssize_t>(bytes.size()));
  archive_entry_free(entry);
  EXPECT_EQ(archive_write_close(writer), ARCHIVE_OK);
  archive_write_free(writer);
  return out;
}

Bytes little_endian(std::uint64_t value, int n) {
  Bytes out;
  for (int i = 0; i < n; ++i) out += static_cast<char>(value >> (8 * i));
  return out;
}

// Zstandard frames by hand (RFC 8878, 3.1.1): blocks of literal bytes, and blocks of one byte repeated.
constexpr std::size_t kMaxBlock = 128 * 1024;
Bytes zstd_frame_start() {
  return Bytes("\x28\xb5\x2f\xfd\x00\x38", 6);
}  // no content size; a window of 128 KiB
Bytes raw_block(std::string_view bytes, bool last) {
  return little_endian(bytes.size() << 3 | (last ? 1 : 0), 3) + Bytes(bytes);
}
Bytes run_block(char byte, std::size_t n, bool last) {
  return little_endian(n << 3 | 2 | (last ? 1 : 0), 3) + byte;
}

Result<Snapshot> open_bytes(std::string_view bytes) {
  const TempFile file(bytes);
  return open_core(file.path(), {}, Progress::none());
}

Bytes present_prefix(const Snapshot& snapshot, Addr address) {
  Reader reader(snapshot.space);
  const auto span = reader.span_to_end(address);
  return {reinterpret_cast<const char*>(span.data()), span.size()};
}

std::uint64_t resident_bytes() {
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * kPage;
}

class Compressed : public ::testing::TestWithParam<const char*> {
 protected:
  Compressed() {
    core_.thread(7).files({{0x900000, 0x901000, 0, "/nowhere"}});
    // Some of it packs well, some does not.
    content_ =
        pattern(40 * kPage, 1) + Bytes(30 * kPage, '\0') + pattern(10, 2) + Bytes(kPage, 'z') + pattern(9 * kPage, 3);
    core_.load(kText, content_);
    whole_ = core_.bytes();
    packed_ = compress(GetParam(), whole_);
  }
  CoreBuilder core_;
  Bytes content_;
  Bytes whole_;
  Bytes packed_;
};

TEST_P(Compressed, ReadsAsIfItWereNot) {
  ASSERT_LT(packed_.size(), whole_.size());
  const Result<Snapshot> snapshot = open_bytes(packed_);
  ASSERT_TRUE(snapshot);
  EXPECT_TRUE(present_prefix(*snapshot, kText) == content_);
  EXPECT_EQ(snapshot->mapped_bytes(), content_.size() + kPage);
  EXPECT_FALSE(snapshot->findings.incomplete());
  Findings findings;
  const TempFile file(packed_);
  const Result<Image> image = read_core_file(file.path(), findings, Progress::none());
  ASSERT_TRUE(image);
  EXPECT_EQ(image->bytes().size(), whole_.size());
}

TEST_P(Compressed, CutOffGivesWhatCameBefore) {
  std::size_t answered = 0;
  for (std::size_t i = 0; i < 120; ++i) {
    // The first and the last bytes one by one, and some in between.
    const std::size_t n = i < 40 ? i : i < 80 ? packed_.size() - 1 - (i - 40) : packed_.size() * (i - 79) / 42;
    SCOPED_TRACE(n);
    const Result<Snapshot> snapshot = open_bytes(std::string_view(packed_).substr(0, n));
    if (!snapshot) {
      EXPECT_EQ(snapshot.error().code, ErrorCode::kNotACore);
      continue;
    }
    ++answered;
    EXPECT_TRUE(snapshot->findings.incomplete());
    EXPECT_EQ(snapshot->findings.count("core-stream-damaged"), 1U);
    const Bytes present = present_prefix(*snapshot, kText);
    EXPECT_TRUE(present == content_.substr(0, present.size()));
    EXPECT_EQ(snapshot->findings.count("core-truncated"), present.size() < content_.size() ? 1U : 0U);
  }
  EXPECT_GT(answered, 4U);  // few with lz4, whose one block is lost whole
}

TEST_P(Compressed, DamagedEndsCleanly) {
  std::mt19937 random(9);
  for (int round = 0; round < 150; ++round) {
    SCOPED_TRACE(round);
    Bytes bytes = packed_;
    for (unsigned i = 0; i <= random() % 3; ++i) {
      bytes[random() % (round % 2 == 0 ? 64 : bytes.size())] ^= static_cast<char>(1U << random() % 8);
    }
    const Result<Snapshot> snapshot = open_bytes(bytes);
    if (snapshot) {
      EXPECT_LE(present_prefix(*snapshot, kText).size(), content_.size());
    }
  }
}

TEST_P(Compressed, SeveralStreamsInOneFile) {
  const Bytes two = compress(GetParam(), whole_.substr(0, 70001)) + compress(GetParam(), whole_.substr(70001));
  const Result<Snapshot> snapshot = open_bytes(two);
  ASSERT_TRUE(snapshot);
  EXPECT_TRUE(present_prefix(*snapshot, kText) == content_);
  EXPECT_FALSE(snapshot->findings.incomplete());
}

TEST_P(Compressed, OfSomethingElseIsNoCore) {
  for (const std::string_view text : {"", "no core at all"}) {
    if (text.empty() && GetParam() == std::string_view("lz4")) continue;  // libarchive cannot write that
    const Result<Snapshot> snapshot = open_bytes(compress(GetParam(), text));
    ASSERT_FALSE(snapshot);
    EXPECT_EQ(snapshot.error().code, ErrorCode::kNotACore);
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, Compressed, ::testing::Values("zstd", "lz4", "xz", "gzip"));

TEST(CompressedCore, ZstdWithAndWithoutContentSize) {
  CoreBuilder core;
  core.thread(7).load(kText, pattern(3 * kPage, 1));
  const Bytes whole = core.bytes();
  ASSERT_LT(whole.size(), kMaxBlock);
  const Bytes sized = Bytes("\x28\xb5\x2f\xfd\xa0", 5) + little_endian(whole.size(), 4) + raw_block(whole, true);
  const Bytes unsized =
      zstd_frame_start() + raw_block(whole.substr(0, 5000), false) + raw_block(whole.substr(5000), true);
  for (const Bytes& packed : {sized, unsized}) {
    const Result<Snapshot> snapshot = open_bytes(packed);
    ASSERT_TRUE(snapshot);
    EXPECT_TRUE(present_prefix(*snapshot, kText) == pattern(3 * kPage, 1));
    EXPECT_EQ(snapshot->findings.count("core-stream-damaged"), 0U);
  }
  // A content size that lies must not be believed beforehand.
  const Bytes liar =
      Bytes("\x28\xb5\x2f\xfd\xe0", 5) + little_endian(std::uint64_t{1} << 46, 8) + raw_block(whole, true);
  const Result<Snapshot> snapshot = open_bytes(liar);
  EXPECT_TRUE(!snapshot || snapshot->findings.count("core-stream-damaged") == 1);
}

TEST(CompressedCore, ZerosTakeNoMemory) {
  constexpr std::size_t kZeros = std::size_t{1} << 30;
  CoreBuilder core;
  core.thread(7).load(kText, pattern(kPage, 1));
  Bytes head = core.bytes();
  Elf64_Phdr segment;
  const std::size_t at = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr);
  std::memcpy(&segment, head.data() + at, sizeof segment);
  segment.p_filesz = segment.p_memsz = kPage + kZeros;
  std::memcpy(head.data() + at, &segment, sizeof segment);
  Bytes packed = zstd_frame_start() + raw_block(head, false);
  for (std::size_t n = 0; n < kZeros; n += kMaxBlock) packed += run_block('\0', kMaxBlock, n + kMaxBlock >= kZeros);
  ASSERT_LT(packed.size(), 100000U);

  const std::uint64_t before = resident_bytes();
  const Result<Snapshot> snapshot = open_bytes(packed);
  ASSERT_TRUE(snapshot);
  EXPECT_LT(resident_bytes(), before + (64 << 20));
  EXPECT_FALSE(snapshot->findings.count("core-truncated"));
  Reader reader(snapshot->space);
  ASSERT_EQ(reader.span_to_end(kText).size(), kPage + kZeros);
  EXPECT_EQ(reader.load<std::uint64_t>(kText + kZeros), 0U);
}

}  // namespace
}  // namespace heapcore
