// Findings stay bounded, and what is kept of them depends on nothing but what was found.
#include "support/finding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace heapcore {
namespace {

Finding finding_at(std::string_view code, Addr address) {
  return {code, Room::kGlibcHeap, address, "at " + std::to_string(address), true};
}

std::vector<Addr> kept_of(const Findings& findings, std::string_view code) {
  std::vector<Addr> addresses;
  for (const Finding& finding : findings.kept()) {
    if (finding.code != code) continue;
    addresses.push_back(finding.address);
    EXPECT_EQ(finding.detail, "at " + std::to_string(finding.address));
  }
  return addresses;
}

std::vector<Addr> shuffled(std::size_t n, unsigned seed) {
  std::vector<Addr> addresses;
  for (std::size_t i = 0; i < n; ++i) addresses.push_back(0x1000 + i * 16);
  std::shuffle(addresses.begin(), addresses.end(), std::mt19937(seed));
  return addresses;
}

TEST(Findings, KeepTheLowestAddressesOfEachCode) {
  Findings findings;
  for (const Addr address : shuffled(10000, 1)) findings.add(finding_at("chunk-bad-size", address));
  findings.add(finding_at("other", 5));
  findings.sort();
  std::vector<Addr> expected;
  for (std::size_t i = 0; i < Findings::kKeptPerCode; ++i) expected.push_back(0x1000 + i * 16);
  EXPECT_EQ(kept_of(findings, "chunk-bad-size"), expected);
  EXPECT_EQ(findings.kept().size(), Findings::kKeptPerCode + 1);
  EXPECT_EQ(findings.count("chunk-bad-size"), 10000U);
  EXPECT_EQ(findings.count("other"), 1U);
  EXPECT_EQ(findings.count("never"), 0U);
  EXPECT_EQ(findings.count("chunk-bad-size"), 10000U);
}

TEST(Findings, MergeToTheSameInAnyOrder) {
  std::vector<Addr> expected_a;
  std::vector<Addr> expected_b;
  for (unsigned seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(seed);
    std::vector<Findings> parts(7);
    std::mt19937 random(seed);
    for (const Addr address : shuffled(300, seed)) parts[random() % parts.size()].add(finding_at("a", address));
    for (const Addr address : shuffled(9, seed)) parts[random() % parts.size()].add(finding_at("b", address));
    Findings all;
    for (const Findings& part : parts) all.merge(part);
    all.sort();
    EXPECT_EQ(all.count("a"), 300U);
    EXPECT_EQ(all.count("b"), 9U);
    if (seed == 0) expected_a = kept_of(all, "a"), expected_b = kept_of(all, "b");
    EXPECT_EQ(kept_of(all, "a"), expected_a);
    EXPECT_EQ(kept_of(all, "b"), expected_b);
  }
  EXPECT_EQ(expected_a.size(), Findings::kKeptPerCode);
  EXPECT_EQ(expected_b.size(), 9U);
}

TEST(Findings, NotesAloneLeaveNothingIncomplete) {
  Findings findings;
  EXPECT_FALSE(findings.incomplete());
  findings.note("file-not-used", Room::kCoreparse, 0x1000, "another build");
  EXPECT_FALSE(findings.incomplete());
  ASSERT_EQ(findings.kept().size(), 1U);
  EXPECT_FALSE(findings.kept().front().incomplete);
  Findings damage;
  damage.add(finding_at("chunk-bad-size", 0x10));
  findings.merge(damage);
  EXPECT_TRUE(findings.incomplete());
}

TEST(Findings, SortByRoomCodeAndAddress) {
  Findings findings;
  findings.add({"b", Room::kPyobj, 1, "", true});
  findings.add({"b", Room::kCoreparse, 9, "", true});
  findings.add({"a", Room::kCoreparse, 7, "", true});
  findings.add({"b", Room::kCoreparse, 2, "", true});
  findings.sort();
  std::string order;
  for (const Finding& finding : findings.kept())
    order += std::string(finding.code) + std::to_string(finding.address) + " ";
  EXPECT_EQ(order, "a7 b2 b9 b1 ");
}

TEST(Findings, RoomsHaveTheirNames) {
  EXPECT_EQ(room_name(Room::kCoreparse), "coreparse");
  EXPECT_EQ(room_name(Room::kGlibcHeap), "glibc_heap");
  EXPECT_EQ(room_name(Room::kPyobj), "pyobj");
  EXPECT_EQ(room_name(Room::kAnalysis), "analysis");
}

}  // namespace
}  // namespace heapcore
