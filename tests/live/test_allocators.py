"""The zoo under other allocators: each PYTHONMALLOC, tracemalloc, and what may be loaded in malloc's place."""

import glob
import json
import os
import unittest

import harness
import test_zoo

MODES = ("malloc", "debug", "pymalloc_debug", "malloc_debug")
PRELOADED = {"jemalloc": "libjemalloc.so.2", "tcmalloc": "libtcmalloc_minimal.so.4", "mimalloc": "libmimalloc.so.2*"}


def some_interpreters():
    """The oldest that has PYTHONMALLOC, a stripped one and the newest: the modes are the same in all."""
    known = [i for i in harness.interpreters() if i.version >= (3,) and not i.free_threaded]
    chosen = known[:1] + [i for i in known if i.stripped][:1] + known[-1:]
    return [i for n, i in enumerate(chosen) if i not in chosen[:n]]


class Allocator(test_zoo.Zoo):
    """One class for each interpreter and allocator, made below."""

    under = ""
    environment = {}
    options = []
    python_allocator = "pymalloc"
    replaced_by = None
    swept = True  # whether objects outside obmalloc's pools that the collector does not track can be found

    @classmethod
    def setUpClass(cls):
        directory = cls.temporary_directory()
        argv = [cls.interpreter.path, *cls.options, "-B", "-S", os.path.join(harness.PROGRAMS, "zoo.py"), directory]
        environment = dict({"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}, **cls.environment)
        target = harness.Target(argv, directory, 0x33, environment)
        cls.addClassCleanup(target.stop)
        target.wait_ready()
        with open(os.path.join(directory, "truth.json")) as file:
            truth = json.load(file)
        said = target.stderr()
        truth["pymalloc"] = harness.parse_debugmallocstats(said) if "Small block threshold" in said else None
        cls.views = [test_zoo.View("live", ["--pid", str(target.pid)], truth, target.mapped_bytes())]
        if harness.why_no_gcore():
            harness.skipped("gcore of the zoo", harness.why_no_gcore())
            return
        core = target.gcore()
        cls.views.append(test_zoo.View("gcore", [core], truth, harness.elf.core_mapped_bytes(core)))

    def test_live_answers_are_complete(self):
        """Of an allocator that cannot be swept it is said what is not counted."""
        for name in ("types", "tracked", "ledger", "pymalloc"):
            codes = [warning["code"] for warning in self.views[0].document(name)["warnings"]]
            swept = self.swept or name == "pymalloc"
            self.assertEqual(codes, [] if swept else ["allocator-not-swept"], name)

    @test_zoo.on_each_view("types")
    def test_allocator_is_named(self, view, document):
        self.assertEqual(document["python_allocator"], self.python_allocator)
        self.assertEqual(document["target"]["malloc_replaced_by"], self.replaced_by)
        notes = {note["code"] for note in document["notes"]}
        self.assertEqual("tracemalloc" in notes, "tracemalloc" in " ".join(self.options))
        self.assertEqual("debug-hooks" in notes, self.python_allocator.endswith("_debug"))

    @test_zoo.on_each_view("pymalloc")
    def test_pymalloc_exactly(self, view, document):
        if view.truth["pymalloc"] is None:
            if self.python_allocator.startswith("malloc"):
                self.assertEqual(document["total"]["blocks_in_use"], 0)
            self.skipTest("it says nothing of its blocks")
        errors = harness.pymalloc_differences(view.truth["pymalloc"], document)
        self.assertEqual(errors, [], "\n  ".join([""] + errors))


class Unswept:
    """Of another malloc's blocks those are known that the collector's lists name or another object refers to."""

    swept = False
    test_nothing_contradicts_itself = None  # test_live_answers_are_complete says what is missing

    @test_zoo.on_each_view("types")
    def test_target_is_described(self, view, document):
        self.assertEqual(document["target"]["python"], self.interpreter.release)


def make_classes():
    for interpreter in some_interpreters():
        def make(under, bases=(Allocator,), **members):
            name = "Allocator_%s_%s" % (under.replace("=", "_"), interpreter.label)
            members.update(interpreter=interpreter, __module__=__name__, under=under)
            globals()[name] = type(name, (*bases, unittest.TestCase), members)

        for mode in MODES:
            # 3.6 forgets what its default is.
            default = "malloc" if interpreter.version < (3, 7) else "pymalloc"
            allocator = default + "_debug" if mode == "debug" else mode
            make("PYTHONMALLOC=" + mode, environment={"PYTHONMALLOC": mode}, python_allocator=allocator)
        make("tracemalloc", options=["-X", "tracemalloc=10"])
        for name, library in PRELOADED.items():
            found = glob.glob("/usr/lib/*/" + library)
            if not found:
                harness.skipped(name, library + " is not installed")
                continue
            if interpreter.origin != "installed":
                harness.skipped("%s under %s" % (name, interpreter), "it has a C library of its own")
                continue
            make(name, (Unswept, Allocator), environment={"LD_PRELOAD": found[0]}, replaced_by=name)


make_classes()

if __name__ == "__main__":
    harness.main()
