"""PYTHONMALLOC: the same objects, whichever allocator they lie in and whatever debug hooks put around them."""

import os
import subprocess
import sys
import unittest

import harness

# Says how many objects of each kind the collector tracks, and then only sleeps. Counting adds its own frame's few.
PROGRAM = """
import gc, sys, time
class A: pass
kept = [A() for i in range(1000)]
gc.disable()
def count(counts):
    for item in gc.get_objects():
        name = type(item).__name__
        counts[name] = counts.get(name, 0) + 1
count({})
counts = {}
count(counts)
print(counts["A"], counts["function"], counts["type"], sum(counts.values()), flush=True)
time.sleep(600)
"""
MODES = ("pymalloc", "malloc", "debug", "pymalloc_debug", "malloc_debug")
MIMALLOC_MODES = ("mimalloc", "debug", "mimalloc_debug")  # a free-threaded build has nothing else
OWN = 8  # objects that come and go with counting and printing


class Hooks(unittest.TestCase):
    def check(self, interpreter, mode):
        environment = dict(os.environ, PYTHONMALLOC=mode)
        process = subprocess.Popen([interpreter.path, "-Sc", PROGRAM], stdout=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL, env=environment, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        instances, functions, types, total = map(int, process.stdout.readline().split())
        answer = harness.heapcore("types", "--tracked", "--pid", str(process.pid), "--json")
        document = harness.check_contract(answer)
        self.assertEqual(document["warnings"], [])
        found = {(row["module"], row["name"]): row["count"] for row in document["types"]}
        self.assertEqual(found[("__main__", "A")], instances)
        self.assertEqual(found[("builtins", "function")], functions)
        self.assertEqual(sum(n for (_, name), n in found.items() if name == "type"), types)
        self.assertAlmostEqual(document["total"]["count"], total, delta=OWN)
        notes = {note["code"] for note in document["notes"]}
        self.assertEqual("debug-hooks" in notes, "debug" in mode)

    def test_every_mode(self):
        for interpreter in (i for i in harness.interpreters() if i.version >= (3,)):  # 2.7 has no PYTHONMALLOC
            more = ("mimalloc", "mimalloc_debug") if interpreter.version >= (3, 13) else ()
            for mode in MIMALLOC_MODES if interpreter.free_threaded else MODES + more:
                with self.subTest(interpreter=str(interpreter), mode=mode):
                    self.check(interpreter, mode)


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    harness.main()
