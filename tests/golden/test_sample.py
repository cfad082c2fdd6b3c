"""The sample core against what its process said of itself. The numbers come from the program, never from heapcore."""

import json
import os
import shutil
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "live"))
import harness  # noqa: E402

TESTDATA = os.path.join(harness.ROOT, "testdata")
CORE = os.path.join(TESTDATA, "leaky_worker.core.zst")
TRUTH = os.path.join(TESTDATA, "leaky_worker.truth.json")


class Sample(harness.TargetTest, unittest.TestCase):
    """As it is found; and, below, with none of its files in reach."""

    @classmethod
    def options(cls):
        return []

    @classmethod
    def setUpClass(cls):
        with open(TRUTH) as file:
            cls.truth = json.load(file)
        cls.answers = {}

    def answer(self, *words):
        if words not in self.answers:
            self.answers[words] = harness.heapcore(*words, CORE, *self.options(), "--json")
        return harness.check_contract(self.answers[words])

    def assert_no_differences(self, lines):
        self.assertEqual(lines, [], "\n  ".join([""] + lines))

    def test_target(self):
        target = self.answer("types")["target"]
        self.assertEqual(target["kind"], "core")
        self.assertEqual(target["architecture"], "x86_64")
        self.assertEqual(target["python"], ".".join(map(str, self.truth["version"])))
        self.assertEqual(target["libc"], "glibc 2.36")
        self.assertEqual(os.path.basename(target["executable"]), "python3.11")

    def test_user_types(self):
        table = harness.rows_by_type(self.answer("types")["types"])
        expected = {(u["module"], u["name"]): u["count"] for u in self.truth["user_types"]}
        actual = {key: count for key, (count, _) in table.items() if key[0] == "__main__"}
        self.assert_no_differences(harness.differences(expected, actual))

    def test_tracked(self):
        expected = harness.rows_by_type(self.truth["tracked"])
        actual = harness.rows_by_type(self.answer("types", "--tracked")["types"])
        self.assert_no_differences(harness.differences(expected, actual))

    def test_pymalloc(self):
        self.assert_no_differences(harness.pymalloc_differences(self.truth["pymalloc"], self.answer("pymalloc")))

    def test_malloc(self):
        truth = dict(self.truth["malloc"])
        truth["mmapped"] = tuple(truth["mmapped"])
        self.assert_no_differences(harness.malloc_differences(truth, self.answer("malloc")))

    def test_ledger(self):
        document = self.answer("ledger")
        self.assertEqual(document["total"]["mapped_bytes"], self.truth["mapped_bytes"])
        self.assertEqual(sum(row["bytes"] for row in document["ledger"]), self.truth["mapped_bytes"])

    def test_report_in_ten_seconds(self):
        answer = harness.heapcore(CORE, *self.options())
        self.assertIn(answer.status, (0, 1), str(answer))
        for word in ("python3.11", "3.11.2", "glibc 2.36", "leaky_worker.py"):
            self.assertIn(word, answer.stdout)
        self.assertTrue(all(len(line) <= 120 for line in answer.stdout.splitlines()))
        self.assertNotIn("\x1b", answer.stdout)

    def test_values_are_withheld(self):
        answer = harness.heapcore(CORE, *self.options(), "--json")
        for secret in ("customer-00", "<html><h1>Invoice", "nightly batch"):
            self.assertNotIn(secret, answer.stdout)


    def test_file_that_does_not_match_is_not_used(self):
        answer = harness.heapcore("types", CORE, *self.options(), "--exe", shutil.which("sleep"), "--json")
        document = harness.check_contract(answer)
        said = " ".join(item["message"] for item in document["warnings"] + document.get("notes", []))
        self.assertRegex(said, "(?i)build-id|match|another build")
        self.assert_no_differences(harness.differences(harness.rows_by_type(self.answer("types")["types"]),
                                                       harness.rows_by_type(document["types"])))


class Compressed(harness.TargetTest, unittest.TestCase):
    """The same core, compressed by others, as a stream: no content size is stored, as systemd-coredump does it."""

    def test_formats(self):
        if not shutil.which("zstd"):
            harness.skipped("compressed cores", "zstd is not installed")
            self.skipTest("no zstd")
        directory = self.temporary_directory()
        plain = subprocess.run(["zstd", "-dc", CORE], stdout=subprocess.PIPE, check=True).stdout
        expected = harness.check_contract(harness.heapcore("types", CORE, "--json"))["types"]
        for suffix, argv in (("", ["cat"]), (".zst", ["zstd", "-c", "-1"]), (".gz", ["gzip", "-c", "-1"]),
                             (".xz", ["xz", "-c", "-0"]), (".lz4", ["lz4", "-c", "-1"])):
            if not shutil.which(argv[0]):
                harness.skipped("a core compressed with " + argv[0], "it is not installed")
                continue
            with self.subTest(suffix):
                path = os.path.join(directory, "sample.core" + suffix)
                with open(path, "wb") as file:
                    subprocess.run(argv, input=plain, stdout=file, check=True)
                document = harness.check_contract(harness.heapcore("types", path, "--json"))
                self.assertEqual(document["types"], expected)


class SampleAlone(Sample):
    """As on a machine that has neither its interpreter nor its libc: the files are looked for in an empty folder."""

    @classmethod
    def options(cls):
        return ["--sysroot", cls.empty]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.empty = cls.temporary_directory()


if __name__ == "__main__":
    harness.main()
