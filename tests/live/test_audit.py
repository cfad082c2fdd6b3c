"""Reference counts that nothing explains: none in a process that did much, but for those that CPython itself never gives
back, which are named; and all that were raised by C code without holding the object (testdata/programs/counts.py).

numpy, where there is one, loses some constants of its own as it is imported: then each object that heapcore names must
have a count higher than the number of words in the process's memory that are its address."""

import array
import collections
import json
import os

import harness

RAISED = 1000

# What heapcore may say that CPython's own C code counts once too often, by the last minor version that does so.
NEVER_GIVEN_BACK = {(3, 6): {"sys", "builtins", "_warnings", "2147483647", ""}, (3, 7): {"sys", "builtins", "_warnings"},
                    (3, 8): {"sys", "builtins", "_warnings"}, (3, 9): {"select.poll"}}


def raised(truth):
    return set(truth.get("held", ())) | set(truth.get("lost", ()))


@harness.for_each_interpreter
class Audit(harness.TargetTest):
    interpreter = None

    @classmethod
    def setUpClass(cls):
        cls.clean = cls.views()
        cls.raised = cls.views(str(RAISED))

    @classmethod
    def views(cls, *number):
        directory = cls.temporary_directory()
        argv = [cls.interpreter.path, "-B", "-S", os.path.join(harness.PROGRAMS, "counts.py"), directory, *number]
        target = cls.start(argv, directory=directory).wait_ready()
        with open(os.path.join(directory, "raised.json")) as file:
            truth = json.load(file)
        found = [("live", cls.ask("--pid", str(target.pid)), truth)]
        truth["words"] = cls.words(target, {int(entry["address"], 16) for entry in found[0][1]["objects"]} - set(raised(truth)))
        if harness.why_no_gcore():
            harness.skipped("gcore of counts", harness.why_no_gcore())
        else:
            found.append(("gcore", cls.ask(target.gcore()), truth))
        target.stop()
        return found

    @classmethod
    def ask(cls, *arguments):
        return harness.check_contract(harness.heapcore("audit", *arguments, "--json", "--limit", "0"))

    @staticmethod
    def words(target, addresses):
        """How often each address is a word of the target's writable memory."""
        found = collections.Counter()
        if not addresses:
            return found
        with open("/proc/%d/maps" % target.pid) as maps, open("/proc/%d/mem" % target.pid, "rb") as memory:
            for line in maps:
                place, permissions = line.split()[:2]
                if "w" not in permissions:
                    continue
                start, end = (int(text, 16) for text in place.split("-"))
                memory.seek(start)
                found.update(word for word in array.array("Q", memory.read(end - start)) if word in addresses)
        return found

    def unexplained(self, objects, truth):
        """Those that are not lost by numpy."""
        if not truth["numpy"]:
            return objects
        if objects:
            print("numpy %s lost %d objects" % (truth["numpy"], len(objects)))
        return [entry for entry in objects if truth["words"][int(entry["address"], 16)] >= entry["refcount"]]

    def test_clean(self):
        for label, document, truth in self.clean:
            with self.subTest(label):
                if "thread-memory-missing" in [w["code"] for w in document["warnings"]]:
                    harness.skipped("clean counts, %s" % label, "the core does not hold the threads' stacks")
                    continue
                self.assertEqual(self.unexplained(document["objects"], truth)[:20], [])
                known = [entry["name"] for entry in document["never_given_back"]]
                self.assertEqual(len(known), len(set(known)))
                self.assertLessEqual(set(known), NEVER_GIVEN_BACK.get(self.interpreter.version[:2], set()))

    def test_raised(self):
        for label, document, truth in self.raised:
            with self.subTest(label):
                addresses = raised(truth)
                self.assertEqual(len(addresses), RAISED)
                found = {int(entry["address"], 16): entry for entry in document["objects"]}
                hidden = addresses - set(found)
                if self.interpreter.free_threaded and self.interpreter.version < (3, 14):
                    harness.skipped("%d of %d raised counts in %s" % (len(hidden), RAISED, self.interpreter),
                                    "stale words in its free lists may hide some")
                    self.assertLess(len(hidden), RAISED / 50)
                    addresses -= hidden
                    hidden = set()
                self.assertEqual([hex(address) for address in hidden], [])
                self.assertEqual({found[address]["excess_references"] for address in addresses}, {1})
                self.assertEqual({address for address in addresses if found[address]["lost"]}, addresses & set(truth["lost"]))
                self.assertEqual(sum(row["count"] for row in document["types"]), document["objects_count"])
                self.assertEqual(sum(row["excess_references"] for row in document["types"]), document["excess_references"])
                if "thread-memory-missing" not in [w["code"] for w in document["warnings"]]:
                    self.assertEqual(self.unexplained([e for a, e in found.items() if a not in addresses], truth)[:20], [])


if __name__ == "__main__":
    harness.main()
