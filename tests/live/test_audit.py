"""Reference counts that nothing explains: none in a process that did much, but for those that CPython itself never gives
back; and all that were raised by C code without holding the object (testdata/programs/counts.py)."""

import json
import os
import unittest

import harness

RAISED = 1000

# What CPython's own C code counts and never gives back, once a process, by type: at most so many objects.
#   to 3.8   sys, builtins, _warnings, which no other module's state holds
#   3.9      select.poll
#   3.6      datetime.timezone.utc, and _multiprocessing's SEM_VALUE_MAX
# In 2.7 a table counts references to what stands for a deleted key; and a buffer may look like an imp.NullImporter.
NEVER_GIVEN_BACK = {"builtins.module": 3, "builtins.type": 1, "datetime.timezone": 1, "builtins.int": 1,
                    "__builtin__.str": 2, "imp.NullImporter": 4}


@harness.for_each_interpreter
class Audit(harness.TargetTest):
    interpreter = None

    @classmethod
    def setUpClass(cls):
        if cls.interpreter.free_threaded:
            harness.skipped("counts in %s" % cls.interpreter, "its frames hold objects without counting them")
            raise unittest.SkipTest("free-threaded")
        cls.clean = cls.views()
        cls.raised = cls.views(str(RAISED))

    @classmethod
    def views(cls, *raised):
        directory = cls.temporary_directory()
        argv = [cls.interpreter.path, "-B", "-S", os.path.join(harness.PROGRAMS, "counts.py"), directory, *raised]
        target = cls.start(argv, directory=directory).wait_ready()
        with open(os.path.join(directory, "raised.json")) as file:
            truth = json.load(file)
        found = [("live", cls.ask("--pid", str(target.pid)), truth)]
        if harness.why_no_gcore():
            harness.skipped("gcore of counts", harness.why_no_gcore())
        else:
            found.append(("gcore", cls.ask(target.gcore()), truth))
        target.stop()
        return found

    @classmethod
    def ask(cls, *arguments):
        return harness.check_contract(harness.heapcore("audit", *arguments, "--json", "--limit", "0"))

    def unknown(self, objects):
        """Those that CPython does not account for."""
        left = dict(NEVER_GIVEN_BACK)
        result = []
        for entry in objects:
            left[entry["type"]] = left.get(entry["type"], 0) - 1
            if left[entry["type"]] < 0:
                result.append(entry)
        return result

    def test_clean(self):
        for label, document, _ in self.clean:
            with self.subTest(label):
                if "thread-memory-missing" in [w["code"] for w in document["warnings"]]:
                    harness.skipped("clean counts, %s" % label, "the core does not hold the threads' stacks")
                    continue
                self.assertEqual(self.unknown(document["objects"])[:20], [])

    def test_raised(self):
        for label, document, truth in self.raised:
            with self.subTest(label):
                raised = set(truth["held"]) | set(truth["lost"])
                self.assertEqual(len(raised), RAISED)
                found = {int(entry["address"], 16): entry for entry in document["objects"]}
                self.assertEqual([hex(address) for address in raised - set(found)], [])
                self.assertEqual({found[address]["excess_references"] for address in raised}, {1})
                self.assertEqual({address for address in raised if found[address]["lost"]}, set(truth["lost"]))
                self.assertEqual(sum(row["count"] for row in document["types"]), document["objects_count"])
                self.assertEqual(sum(row["excess_references"] for row in document["types"]), document["excess_references"])
                if "thread-memory-missing" not in [w["code"] for w in document["warnings"]]:
                    self.assertEqual(self.unknown(e for a, e in found.items() if a not in raised)[:20], [])


if __name__ == "__main__":
    harness.main()
