"""`verify --layouts`: where each field lies, compared with what interpreters say of it themselves, and its sources with
each other: a table, the target's own debug offsets, DWARF of the exact build."""

import json
import os

import harness

SOURCE = r"^(table \S+|table \S+ to \S+|_Py_DebugOffsets|DWARF of build-id [0-9a-f]+)$"


@harness.for_each_interpreter
class Layouts(harness.TargetTest):
    interpreter = None

    @classmethod
    def setUpClass(cls):
        target = cls.start_python(cls.interpreter, "layout.py", 0x33)
        with open(os.path.join(target.directory, "layout.json")) as file:
            cls.truth = {(row["structure"], row["field"]): row["offset"] for row in json.load(file)}
        cls.answers = {"live": harness.heapcore("verify", "--layouts", "--pid", str(target.pid), "--json")}
        if harness.why_no_kernel_core():
            harness.skipped("layouts from a kernel core", harness.why_no_kernel_core())
            return
        core = target.kernel_core()
        cls.answers["core alone"] = harness.heapcore("verify", "--layouts", core, "--sysroot",
                                                     cls.temporary_directory(), "--json")

    def rows(self, label):
        answer = self.answers[label]
        self.assertIn(answer.status, (0, 1), str(answer))
        rows = answer.document["layouts"]
        for row in rows:
            self.assertRegex(row["source"], SOURCE)
        return {(row["structure"], row["field"]): row for row in rows if row["library"] == "cpython"}

    def test_fields_lie_where_the_interpreter_says(self):
        for label in self.answers:
            with self.subTest(label):
                rows = self.rows(label)
                expected = {key: offset for key, offset in self.truth.items() if offset > 0}
                self.assertEqual({key: rows[key]["offset"] for key in expected}, expected)

    def test_sources_agree(self):
        for label, answer in self.answers.items():
            with self.subTest(label):
                self.assertEqual([key for key, row in self.rows(label).items() if "table_offset" in row], [])
                self.assertNotIn("python-layout-differs", [note["code"] for note in answer.document["notes"]])

    def test_debug_offsets_are_read(self):
        if self.interpreter.version < (3, 13):
            return
        sources = {row["source"] for row in self.rows("core alone").values()} if "core alone" in self.answers else set()
        if sources:
            self.assertIn("_Py_DebugOffsets", sources)


if __name__ == "__main__":
    harness.main()
