"""Waste, against what a program says of itself that wastes memory in every way that heapcore knows.

Each kind is held by a class of its own in testdata/programs/wasteful.py, which adds up sys.getsizeof of what it made and
of the better form. What the interpreter itself wastes besides is in other rows.
"""

import json
import os
import unittest

import harness

CONTENTS_SHOWN = ("region 7 of many", "chunk 7")


@harness.for_each_interpreter
class Waste(harness.TargetTest):
    interpreter = None

    @classmethod
    def setUpClass(cls):
        target = cls.start_python(cls.interpreter, "wasteful.py")
        with open(os.path.join(target.directory, "truth.json")) as file:
            cls.truth = json.load(file)
        places = [("live", ["--pid", str(target.pid)])]
        if harness.why_no_gcore():
            harness.skipped("gcore of a wasteful process", harness.why_no_gcore())
        else:
            places.append(("gcore", [target.gcore()]))
        cls.views = []
        for label, where in places:
            plain = harness.heapcore("waste", *where, "--json", "--limit", "0")
            shown = harness.heapcore("waste", *where, "--json", "--limit", "0", "--values")
            cls.views.append((label, harness.check_contract(plain), plain.stdout, harness.check_contract(shown)))

    def test_each_kind_is_what_the_program_counts(self):
        for label, document, _, _ in self.views:
            with harness.checking(self, label, "waste"):
                rows = {(row["kind"], row["type"], row["held_by"]): row for row in document["waste"]}
                for said in self.truth:
                    key = said["kind"], said["type"], said["held_by"]
                    with self.subTest(key):
                        self.assertTrue(key in rows, sorted(rows, key=str))
                        found = rows[key]
                        self.assertEqual((found["count"], found["wasted_bytes"]), (said["count"], said["wasted_bytes"]))
                        self.assertIn("__main__.keep[", found["path"])

    def test_what_others_hold_too_is_no_waste(self):
        for label, document, _, _ in self.views:
            with harness.checking(self, label, "waste"):
                self.assertNotIn("__main__.SharedFloats", [row["held_by"] for row in document["waste"]
                                                           if row["kind"] == "boxed_numbers"])

    def test_totals_are_the_sums_of_the_rows(self):
        for label, document, _, _ in self.views:
            with harness.checking(self, label, "waste"):
                self.assertEqual(len(document["waste"]), document["waste_count"])
                for key in ("count", "bytes", "wasted_bytes"):
                    self.assertEqual(document["total"][key], sum(row[key] for row in document["waste"]))
                    self.assertEqual(document["total"][key], sum(kind[key] for kind in document["kinds"].values()))
                for row in document["waste"]:
                    self.assertLessEqual(row["wasted_bytes"], row["bytes"])
                strings = [row for row in document["waste"] if row["kind"] == "duplicate_strings"]
                for key in ("count", "bytes", "wasted_bytes"):
                    self.assertEqual(sum(row[key] for row in strings), sum(s[key] for s in document["strings"]))

    def test_contents_are_withheld(self):
        for label, _, text, with_values in self.views:
            with harness.checking(self, label, "values"):
                self.assertNotIn("of many", text)
                texts = " ".join(string["text"] or "" for string in with_values["strings"])
                for shown in CONTENTS_SHOWN:
                    self.assertIn(shown, texts)


if __name__ == "__main__":
    harness.main()
