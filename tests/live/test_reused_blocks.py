"""Remains of freed objects in blocks that are buffers now do not count (testdata/programs/reused_blocks.py)."""

import json
import os

import harness

# What may be alive besides: of floats the interpreter's own; of what is tracked, what counting and writing needed.
FLOATS = 40
FEW = 6


@harness.for_each_interpreter
class ReusedBlocks(harness.TargetTest):
    interpreter = None

    @classmethod
    def setUpClass(cls):
        target = cls.start_python(cls.interpreter, "reused_blocks.py")
        with open(os.path.join(target.directory, "alive.json")) as file:
            cls.alive = json.load(file)
        cls.answers = {words: harness.heapcore("types", "--pid", str(target.pid), "--json", "--limit", "0", *words)
                       for words in ((), ("--tracked",))}

    def counts(self, *words):
        document = harness.check_contract(self.answers[words])
        self.assertEqual(document["warnings"], [])
        return {row["name"]: row["count"] for row in document["types"] if row["module"] in ("__main__", "builtins", "__builtin__", "array")}

    def test_tracked(self):
        counts = self.counts("--tracked")
        for name, alive in self.alive.items():
            self.assertLessEqual(abs(counts.get(name, 0) - alive), FEW, (name, alive, counts.get(name)))

    def test_all(self):
        counts = self.counts()
        self.assertEqual(counts.get("Node", 0), 0)
        self.assertLess(counts.get("float", 0), FLOATS)


if __name__ == "__main__":
    harness.main()
