"""Small committed cores, one for each version and build of CPython, against what their processes said of themselves: so that
every version is tested on every machine, with none of the files that the process had mapped."""

import glob
import json
import os

import harness
import test_values
import test_zoo

FOLDER = os.path.join(harness.ROOT, "testdata", "pythons")


class Core:
    """In the place of a harness.Interpreter."""

    def __init__(self, path):
        self.path = path
        with open(path.replace(".core.xz", ".truth.json")) as file:
            self.truth = json.load(file)
        self.version = tuple(self.truth["version"])
        self.release = "%d.%d.%d" % self.version
        self.build = self.truth["build"]
        self.free_threaded = self.build.startswith("free-threaded")
        self.stripped = self.linkage = None
        self.origin = "committed"
        self.label = os.path.basename(path).replace(".core.xz", "").replace(".", "_")

    def __str__(self):
        return os.path.basename(self.path)


class CoreView(test_zoo.View):
    def document(self, name):
        """An array's item size is among the interpreter's constants, which the core lacks: heapcore says so."""
        document = super().document(name)
        if name in ("types", "tracked") and "array-items-missing" in [w["code"] for w in document["warnings"]]:
            true, = [row for row in self.truth["reachable"] if row["name"] == "array"]
            row, = [row for row in document["types"] if row["name"] == "array"]
            document["total"]["bytes"] += true["bytes"] - row["bytes"]
            row["bytes"] = true["bytes"]
        return document


class PythonCore(test_zoo.Zoo):
    """One class for each, made below."""

    slack = 250  # a small program has hardly less of what only C code holds

    @classmethod
    def setUpClass(cls):
        nothing = cls.temporary_directory()
        core = cls.interpreter
        cls.views = [CoreView("committed core", [core.path, "--sysroot", nothing], core.truth, core.truth["mapped_bytes"])]

    def test_live_answers_are_complete(self):
        """What is missing is said, and is nothing of Python's."""
        for name, answer in self.views[0].answers.items():
            with self.subTest(name):
                codes = {warning["code"] for warning in answer.document["warnings"]}
                self.assertEqual(codes - {"array-items-missing"}, set())


class CoreValues(test_values.Checks, harness.TargetTest):
    """One class for each, made below."""

    @classmethod
    def setUpClass(cls):
        nothing = cls.temporary_directory()
        core = cls.interpreter
        cls.views = [test_values.View("committed core", [core.path, "--sysroot", nothing], core.truth["samples"])]


CORES = sorted(glob.glob(os.path.join(os.environ.get("HEAPCORE_PYTHON_CORES") or FOLDER, "*.core.xz")))
if not CORES:
    harness.skipped("the committed cores", "there are none in " + FOLDER)
harness.make_test_classes(PythonCore, map(Core, CORES))
harness.make_test_classes(CoreValues, [core for core in map(Core, CORES) if not core.free_threaded])

if __name__ == "__main__":
    harness.main()
