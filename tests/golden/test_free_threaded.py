"""The sample of a free-threaded build against what its process said of itself."""

import json
import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "live"))
import harness  # noqa: E402

SAMPLE = os.path.join(harness.ROOT, "testdata", "three_threads")


class FreeThreaded(harness.TargetTest, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with open(SAMPLE + ".truth.json") as file:
            cls.truth = json.load(file)
        cls.empty = cls.temporary_directory()  # none of its files are in reach

    def ask(self, *words):
        return harness.heapcore(*words, SAMPLE + ".core.zst", "--sysroot", self.empty, "--json")

    def answer(self, *words):
        return harness.check_contract(self.ask(*words))

    def assert_no_differences(self, lines):
        self.assertEqual(lines, [], "\n  ".join([""] + lines))

    def test_target(self):
        document = self.answer("types")
        self.assertEqual(document["warnings"], [])
        self.assertEqual(document["target"]["python"], "3.13.5")
        self.assertEqual(document["target"]["python_build"], "free-threaded")
        self.assertEqual(document["target"]["threads"], 2)  # the third has ended

    def test_user_types(self):
        """Of each thread's objects some were freed: by another thread, or while their own thread was gone."""
        table = harness.rows_by_type(self.answer("types")["types"])
        expected = {(u["module"], u["name"]): u["count"] for u in self.truth["user_types"]}
        self.assert_no_differences(harness.differences(
            expected, {key: count for key, (count, _) in table.items() if key[0] == "__main__"}))

    def test_tracked(self):
        self.assert_no_differences(harness.differences(
            harness.rows_by_type(self.truth["tracked"]),
            harness.rows_by_type(self.answer("types", "--tracked")["types"])))

    def test_allocator(self):
        self.assert_no_differences(harness.mimalloc_differences(self.truth["pymalloc"], self.answer("pymalloc")))

    def test_malloc(self):
        truth = dict(self.truth["malloc"])
        truth["mmapped"] = tuple(truth["mmapped"])
        self.assert_no_differences(harness.malloc_differences(truth, self.answer("malloc")))

    def test_ledger(self):
        document = self.answer("ledger")
        self.assertEqual(document["total"]["mapped_bytes"], self.truth["mapped_bytes"])
        self.assertEqual(sum(row["bytes"] for row in document["ledger"]), self.truth["mapped_bytes"])
        categories = {row["category"] for row in document["ledger"]}
        self.assertIn("mimalloc free", categories)
        self.assertNotIn("obmalloc free", categories)

    def test_everything_agrees(self):
        self.assertTrue(self.ask("verify").document["consistent"])


if __name__ == "__main__":
    harness.main()
