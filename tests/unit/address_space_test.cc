// AddressSpace and Reader against a reference that keeps one entry for each byte.
#include "coreparse/address_space.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <vector>

namespace heapcore {
namespace {

constexpr std::size_t kRange = 160;  // bytes of the made-up address ranges
constexpr std::array<Addr, 3> kBases = {0, 0x7f1234567000, ~Addr{0} - kRange};

struct ByteInfo {
  ByteState state = ByteState::kUnmapped;
  const std::byte* byte = nullptr;
  bool from_file = false;
};
using ByteMap = std::array<ByteInfo, kRange>;

std::vector<std::byte> pool_of(std::size_t n) {
  std::mt19937 random(7);
  std::vector<std::byte> pool(n);
  // Zeros often enough for text to end now and then.
  for (std::byte& byte : pool) byte = static_cast<std::byte>(random() % 8 == 0 ? 0 : 1 + random() % 255);
  return pool;
}

std::vector<Segment> random_segments(std::mt19937& random, Addr base, const std::vector<std::byte>& pool) {
  std::vector<Segment> segments(random() % 9);
  for (Segment& segment : segments) {
    const std::size_t start = random() % kRange;
    const std::size_t length = random() % 4 == 0 ? 0 : random() % std::min<std::size_t>(40, kRange - start);
    segment.start = base + start;
    segment.end = segment.start + length;
    if (random() % 40 == 0) std::swap(segment.start, segment.end);  // nonsense, to be left out
    segment.from_file = random() % 4 == 0;
    segment.state = static_cast<ByteState>(random() % 3);
    if (segment.state != ByteState::kPresent) continue;
    // Some continue in storage where an earlier one ends.
    const bool contiguous = random() % 2 == 0 && start + length < pool.size();
    segment.bytes = pool.data() + (contiguous ? start : random() % (pool.size() - kRange));
  }
  return segments;
}

// What assign() and overlay() do with the order of what they are given.
std::vector<Segment> in_order(std::vector<Segment> segments) {
  std::erase_if(segments, [](const Segment& s) { return s.start >= s.end; });
  std::stable_sort(segments.begin(), segments.end(),
                   [](const Segment& a, const Segment& b) { return a.start < b.start; });
  return segments;
}

std::uint64_t reference_assign(ByteMap& map, const std::vector<Segment>& segments, Addr base) {
  std::uint64_t claimed_twice = 0;
  for (const Segment& segment : in_order(segments)) {
    for (Addr at = segment.start; at < segment.end; ++at) {
      ByteInfo& info = map[at - base];
      if (info.state != ByteState::kUnmapped) {
        ++claimed_twice;
        continue;
      }
      info = {segment.state, segment.bytes == nullptr ? nullptr : segment.bytes + (at - segment.start),
              segment.from_file};
    }
  }
  return claimed_twice;
}

void reference_overlay(ByteMap& map, const std::vector<Segment>& extra, Addr base) {
  ByteMap fill{};
  reference_assign(fill, extra, base);
  for (std::size_t i = 0; i < kRange; ++i) {
    const bool open = map[i].state == ByteState::kUnmapped || map[i].state == ByteState::kNotDumped;
    if (open && fill[i].state != ByteState::kUnmapped) map[i] = fill[i];
  }
}

void expect_same(const AddressSpace& space, const ByteMap& map, Addr base) {
  Addr last_end = 0;
  for (const Segment& segment : space.segments()) {
    ASSERT_LT(segment.start, segment.end);
    ASSERT_GE(segment.start, last_end);
    ASSERT_EQ(segment.bytes != nullptr, segment.state == ByteState::kPresent);
    last_end = segment.end;
  }
  std::uint64_t mapped = 0;
  for (std::size_t i = 0; i < kRange; ++i) {
    const Segment* segment = space.find(base + i);
    ASSERT_EQ(space.state(base + i), map[i].state) << i;
    ASSERT_EQ(segment == nullptr, map[i].state == ByteState::kUnmapped) << i;
    if (segment == nullptr) continue;
    ++mapped;
    ASSERT_EQ(segment->from_file, map[i].from_file) << i;
    if (map[i].byte != nullptr) {
      ASSERT_EQ(segment->bytes + (base + i - segment->start), map[i].byte) << i;
    }
    ASSERT_EQ(&space.segments()[space.lower_index(base + i)], segment);
  }
  std::uint64_t total = 0;
  for (const Segment& segment : space.segments()) total += segment.size_bytes();
  ASSERT_EQ(total, mapped);
}

TEST(AddressSpace, IsTheByteMap) {
  const std::vector<std::byte> pool = pool_of(4 * kRange);
  std::mt19937 random(42);
  for (int round = 0; round < 20000; ++round) {
    SCOPED_TRACE(round);
    const Addr base = kBases[static_cast<std::size_t>(round) % kBases.size()];
    AddressSpace space;
    ByteMap map{};
    const std::vector<Segment> segments = random_segments(random, base, pool);
    ASSERT_EQ(space.assign(segments), reference_assign(map, segments, base));
    expect_same(space, map, base);
    for (int i = 0; i < 2; ++i) {
      const std::vector<Segment> extra = random_segments(random, base, pool);
      space.overlay(extra);
      reference_overlay(map, extra, base);
      expect_same(space, map, base);
    }
    if (::testing::Test::HasFatalFailure()) return;
  }
}

// What the reader should see from `at` on, byte by byte.
std::size_t run_of(const ByteMap& map, std::size_t at, bool zeros_too) {
  std::size_t n = 0;
  while (at + n < kRange) {
    const ByteState state = map[at + n].state;
    if (state != ByteState::kPresent && !(zeros_too && state == ByteState::kZeroFill)) break;
    ++n;
  }
  return n;
}

std::byte byte_of(const ByteInfo& info) {
  return info.byte == nullptr ? std::byte{0} : *info.byte;
}

TEST(Reader, ReadsTheByteMap) {
  const std::vector<std::byte> pool = pool_of(4 * kRange);
  std::mt19937 random(43);
  for (int round = 0; round < 3000; ++round) {
    SCOPED_TRACE(round);
    const Addr base = kBases[static_cast<std::size_t>(round) % kBases.size()];
    const std::vector<Segment> segments = random_segments(random, base, pool);
    AddressSpace space;
    ByteMap map{};
    space.assign(segments);
    reference_assign(map, segments, base);
    Reader reader(space);  // one for all, so that its memory of the last segment is tried as well
    for (int i = 0; i < 60; ++i) {
      const std::size_t at = random() % kRange;
      const std::size_t n = 1 + random() % 24;
      const Segment* segment = space.find(base + at);
      const bool present = segment != nullptr && segment->state == ByteState::kPresent;
      const std::uint64_t rest = present ? segment->end - (base + at) : 0;
      ASSERT_EQ(reader.span(base + at, n).size(), n <= rest ? n : 0);
      ASSERT_EQ(reader.span_to_end(base + at).size(), rest);
      if (present) {
        ASSERT_EQ(reader.span_to_end(base + at).data(), map[at].byte);
      }
      std::vector<std::byte> out(n, std::byte{0xee});
      const bool readable = run_of(map, at, true) >= n;
      ASSERT_EQ(reader.read(base + at, out), readable);
      for (std::size_t k = 0; readable && k < n; ++k) ASSERT_EQ(out[k], byte_of(map[at + k]));
      const auto word = reader.load<std::uint64_t>(base + at);
      ASSERT_EQ(word.has_value(), run_of(map, at, true) >= 8);
      for (std::size_t k = 0; word && k < 8; ++k) {
        ASSERT_EQ(static_cast<std::byte>(*word >> (8 * k)), byte_of(map[at + k]));
      }
      std::string text;
      std::size_t end = at;
      while (end < kRange && map[end].state == ByteState::kPresent && byte_of(map[end]) != std::byte{0}) {
        text += static_cast<char>(byte_of(map[end++]));
      }
      const bool ends = end < kRange && map[end].state == ByteState::kPresent && text.size() <= n;
      const auto found = reader.c_string(base + at, n);
      ASSERT_EQ(found.has_value(), ends) << at;
      if (ends) {
        ASSERT_EQ(*found, text);
      }
    }
  }
}

TEST(Reader, SaysNothingOfWhatIsNotThere) {
  const AddressSpace empty;
  Reader reader(empty);
  EXPECT_TRUE(reader.span(0, 1).empty());
  EXPECT_TRUE(reader.span(~Addr{0}, ~std::uint64_t{0}).empty());
  EXPECT_FALSE(reader.load<int>(0x1000));
  EXPECT_FALSE(reader.c_string(0));
  EXPECT_EQ(empty.find(0), nullptr);
  EXPECT_EQ(empty.lower_index(0), 0U);
}

TEST(Reader, RefusesLengthsThatWrap) {
  const std::vector<std::byte> bytes(64, std::byte{'x'});
  AddressSpace space;
  space.assign({{0x1000, 0x1040, bytes.data(), ByteState::kPresent, false}});
  Reader reader(space);
  for (const std::uint64_t n :
       {std::uint64_t{65}, ~std::uint64_t{0}, ~std::uint64_t{0} - 0x1000, std::uint64_t{1} << 63}) {
    EXPECT_TRUE(reader.span(0x1000, n).empty()) << n;
    EXPECT_TRUE(reader.span(0x103f, n).empty()) << n;
  }
  EXPECT_EQ(reader.span(0x1000, 64).size(), 64U);
  EXPECT_TRUE(reader.span(0xfff, 1).empty());
  EXPECT_TRUE(reader.span(0x1040, 1).empty());
}

TEST(Reader, EndsTextAtItsLimit) {
  const std::string_view text("hello\0", 6);
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  AddressSpace space;
  // In two pieces that do not lie one behind the other here.
  const std::vector<std::byte> tail(bytes + 3, bytes + 6);
  space.assign(
      {{0x1000, 0x1003, bytes, ByteState::kPresent, false}, {0x1003, 0x1006, tail.data(), ByteState::kPresent, false}});
  ASSERT_EQ(space.segments().size(), 2U);
  Reader reader(space);
  EXPECT_EQ(reader.c_string(0x1000), "hello");
  EXPECT_EQ(reader.c_string(0x1000, 5), "hello");
  EXPECT_FALSE(reader.c_string(0x1000, 4));
  EXPECT_EQ(reader.c_string(0x1005), "");
  EXPECT_EQ(reader.c_string(0x1005, 0), "");
}

TEST(AddressSpace, JoinsWhatLiesTogetherHereToo) {
  const std::vector<std::byte> bytes(32);
  AddressSpace space;
  space.assign({{0x1010, 0x1020, bytes.data() + 16, ByteState::kPresent, false},
                {0x1000, 0x1010, bytes.data(), ByteState::kPresent, false}});
  ASSERT_EQ(space.segments().size(), 1U);
  EXPECT_EQ(Reader(space).span(0x1000, 32).size(), 32U);
}

}  // namespace
}  // namespace heapcore
