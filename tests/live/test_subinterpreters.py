"""Objects of sub-interpreters, which from 3.12 on have an allocator of their own: all are counted, and once."""

import json
import os
import subprocess

import harness


def has_subinterpreters(interpreter):
    code = "try:\n import _interpreters\nexcept ImportError:\n import _xxsubinterpreters"
    return subprocess.run([interpreter.path, "-Sc", code], stderr=subprocess.DEVNULL).returncode == 0


@harness.for_each_interpreter
class SubInterpreters(harness.TargetTest):
    interpreter = None
    under = "several interpreters"

    @classmethod
    def setUpClass(cls):
        cls.views = {}
        if not has_subinterpreters(cls.interpreter):
            harness.skipped("sub-interpreters of %s" % cls.interpreter, "it has no module for them")
            return
        target = cls.start_python(cls.interpreter, "subinterpreters.py", 0x33)
        cls.truth = {}
        for number in range(2):
            with open(os.path.join(target.directory, "truth-%d.json" % number)) as file:
                for key, (count, size) in harness.rows_by_type(json.load(file)).items():
                    old = cls.truth.get(key, (0, 0))
                    cls.truth[key] = old[0] + count, old[1] + size
        cls.look("live", ["--pid", str(target.pid)])
        if harness.why_no_kernel_core():
            harness.skipped("kernel core of sub-interpreters", harness.why_no_kernel_core())
            return
        core = target.kernel_core()
        cls.look("kernel core", [core])
        cls.look("kernel core alone", [core, "--sysroot", cls.temporary_directory()])

    @classmethod
    def look(cls, label, where):
        cls.views[label] = {command: harness.heapcore(command, *where, "--json") for command in ("types", "pymalloc")}

    def test_types_exactly(self):
        for label, answers in self.views.items():
            with harness.checking(self, label, "objects"):
                table = harness.rows_by_type(harness.check_contract(answers["types"])["types"])
                lines = harness.differences(self.truth, {key: table.get(key) for key in self.truth})
                self.assertEqual(lines, [])

    def test_every_view_has_the_same_arenas(self):
        if not self.views:
            return
        live = harness.check_contract(self.views["live"]["pymalloc"])
        self.assertGreater(live["total"]["blocks_in_use"], 2 * 70000)
        for label, answers in self.views.items():
            with harness.checking(self, label, "blocks"):
                self.assertEqual(harness.check_contract(answers["pymalloc"])["total"], live["total"])


if __name__ == "__main__":
    harness.main()
