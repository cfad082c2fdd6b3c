#include "pyobj/py_traits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

namespace heapcore {
namespace {

std::vector<PyTraits> of_debug_builds(std::vector<PyTraits> candidates) {
  std::erase_if(candidates, [](const PyTraits& traits) { return !traits.debug_build; });
  return candidates;
}

TEST(PyTraits, DebugBuildsComeAfterReleaseBuilds) {
  const std::vector<PyTraits> candidates = candidate_traits({0x030d05f0, true});
  EXPECT_FALSE(candidates.front().debug_build);
  EXPECT_STREQ(candidates.front().layout_version, "3.13.5");
  EXPECT_TRUE(std::is_sorted(candidates.begin(), candidates.end(),
                             [](const auto& a, const auto& b) { return a.debug_build < b.debug_build; }));
}

TEST(PyTraits, DebugBuildsHaveLayoutsOfTheirOwn) {
  const std::vector<PyTraits> candidates = of_debug_builds(candidate_traits({0x030d05f0, true}));
  ASSERT_FALSE(candidates.empty());
  EXPECT_STREQ(candidates.front().layout_version, "3.13.5d");
  for (const PyTraits& traits : candidates)
    EXPECT_TRUE(std::strchr(traits.layout_version, 'd')) << traits.layout_version;
}

TEST(PyTraits, DebugBuildsWithoutATableAreReadAsReleaseBuilds) {
  const std::vector<PyTraits> candidates = of_debug_builds(candidate_traits({0x030b02f0, true}));
  ASSERT_FALSE(candidates.empty());
  EXPECT_STREQ(candidates.front().layout_version, traits_for({0x030b02f0, true})->layout_version);
}

TEST(PyTraits, ObjectsOfOldDebugBuildsBeginWithTwoLinks) {
  const std::vector<PyTraits> candidates = of_debug_builds(candidate_traits({0x030609f0, true}));
  ASSERT_FALSE(candidates.empty());
  EXPECT_EQ(candidates.front().layout->PyObject.ob_refcnt.offset, 16);
  EXPECT_EQ(candidates.front().layout->PyObject.size_bytes, 32U);
}

}  // namespace
}  // namespace heapcore
