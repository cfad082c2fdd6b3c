// The census as a table: grouping, ordering, what is left out.
#include "analysis/type_rows.h"

#include <gtest/gtest.h>

#include "py_builder.h"

namespace heapcore::testing {
namespace {

// A census of types that exist, with counts that the test makes up.
struct Made {
  FakePython python;
  std::vector<Addr> types;
  Snapshot snapshot;
  PyRuntime runtime;
  Census census;

  explicit Made(const std::vector<std::pair<std::string, TypeTotals>>& rows) {
    for (const auto& [name, totals] : rows) types.push_back(python.static_type({name, 32}));
    snapshot = python.snapshot();
    runtime = python.runtime();
    census.types = std::make_unique<TypeTable>(snapshot, runtime);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(census.types->classify(types[i]).id, i);
      census.by_type.push_back(rows[i].second);
      census.total += rows[i].second.all;
      census.tracked += rows[i].second.tracked;
    }
  }
};

std::vector<std::string> names(const TypeRows& rows) {
  std::vector<std::string> result;
  for (const TypeRow& row : rows.rows) result.push_back(row.module + (row.name.empty() ? "" : "." + row.name));
  return result;
}

using Names = std::vector<std::string>;

TEST(TypeRows, OrdersByBytesCountOrName) {
  const Made made({{"m.small", {{9, 90}, {}}},
                   {"int", {{5, 500}, {}}},
                   {"a.large", {{1, 1000}, {1, 1000}}},
                   {"m.even", {{5, 500}, {2, 200}}},
                   {"m.none", {}}});
  EXPECT_EQ(names(type_rows(made.census, GroupBy::kType, SortBy::kBytes, false)),
            (Names{"a.large", "builtins.int", "m.even", "m.small"}));
  EXPECT_EQ(names(type_rows(made.census, GroupBy::kType, SortBy::kCount, false)),
            (Names{"m.small", "builtins.int", "m.even", "a.large"}));
  EXPECT_EQ(names(type_rows(made.census, GroupBy::kType, SortBy::kName, false)),
            (Names{"a.large", "builtins.int", "m.even", "m.small"}));
  const TypeRows all = type_rows(made.census, GroupBy::kType, SortBy::kBytes, false);
  EXPECT_EQ(all.total, (CountBytes{20, 2090}));
  EXPECT_EQ(all.rows[0].address, made.types[2]);
  EXPECT_EQ(all.rows[0].total, (CountBytes{1, 1000}));
}

TEST(TypeRows, ByName) {
  const Made made(
      {{"m.small", {{9, 90}, {}}}, {"int", {{5, 500}, {}}}, {"m.even", {{5, 400}, {}}}, {"n.int", {{1, 8}, {}}}});
  TypeRows rows = type_rows(made.census, GroupBy::kType, SortBy::kBytes, false);
  select_named(rows, {"m.*", "int"});
  EXPECT_EQ(names(rows), (Names{"builtins.int", "m.even", "m.small"}));
  EXPECT_EQ(rows.selected, (CountBytes{19, 990}));
  EXPECT_EQ(rows.total, (CountBytes{20, 998}));
  select_named(rows, {"*.none"});
  EXPECT_TRUE(rows.rows.empty());
}

TEST(TypeRows, TrackedOnly) {
  const Made made({{"m.a", {{9, 90}, {}}}, {"m.b", {{5, 500}, {2, 200}}}, {"m.c", {{5, 400}, {3, 300}}}});
  const TypeRows rows = type_rows(made.census, GroupBy::kType, SortBy::kBytes, true);
  EXPECT_EQ(names(rows), (Names{"m.c", "m.b"}));
  EXPECT_EQ(rows.rows[0].total, (CountBytes{3, 300}));
  EXPECT_EQ(rows.total, (CountBytes{5, 500}));
  EXPECT_TRUE(rows.tracked_only);
}

TEST(TypeRows, TypesOfOneNameStayApartAndInOrderOfAddress) {
  const Made made({{"m.same", {{1, 10}, {}}}, {"m.same", {{1, 10}, {}}}, {"m.same", {{2, 10}, {}}}});
  const TypeRows rows = type_rows(made.census, GroupBy::kType, SortBy::kBytes, false);
  ASSERT_EQ(rows.rows.size(), 3U);
  EXPECT_LT(rows.rows[0].address, rows.rows[1].address);
  EXPECT_LT(rows.rows[1].address, rows.rows[2].address);
}

TEST(TypeRows, ByModule) {
  const Made made({{"m.a", {{1, 10}, {1, 10}}},
                   {"pkg.mod.b", {{2, 500}, {}}},
                   {"m.c", {{3, 30}, {}}},
                   {"int", {{4, 40}, {}}},
                   {"", {{1, 7}, {}}}});
  const TypeRows rows = type_rows(made.census, GroupBy::kModule, SortBy::kBytes, false);
  EXPECT_EQ(names(rows), (Names{"pkg.mod", "builtins", "m", ""}));
  EXPECT_EQ(rows.rows[2].total, (CountBytes{4, 40}));
  EXPECT_EQ(rows.rows[2].address, 0U);
  EXPECT_EQ(rows.total, (CountBytes{11, 587}));
  EXPECT_EQ(names(type_rows(made.census, GroupBy::kModule, SortBy::kName, true)), (Names{"m"}));
}

TEST(TypeRows, BySize) {
  Made made({{"m.a", {{3, 0}, {}}}});
  made.census.by_size[6] = {{2, 100}, {1, 50}};
  made.census.by_size[1] = {{1, 1}, {}};
  made.census.by_size[64] = {{1, ~std::uint64_t{0}}, {}};
  const TypeRows rows = type_rows(made.census, GroupBy::kSize, SortBy::kName, false);
  ASSERT_EQ(rows.rows.size(), 3U);
  EXPECT_EQ(rows.rows[0].size_from, 1U);
  EXPECT_EQ(rows.rows[0].size_to, 1U);
  EXPECT_EQ(rows.rows[1].size_from, 32U);
  EXPECT_EQ(rows.rows[1].size_to, 63U);
  EXPECT_EQ(rows.rows[1].total, (CountBytes{2, 100}));
  EXPECT_EQ(rows.rows[2].size_from, std::uint64_t{1} << 63);
  EXPECT_EQ(rows.rows[2].size_to, ~std::uint64_t{0});
  EXPECT_EQ(type_rows(made.census, GroupBy::kSize, SortBy::kBytes, true).rows.size(), 1U);
}

}  // namespace
}  // namespace heapcore::testing
