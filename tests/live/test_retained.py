"""What `retained` says that an object retains, against what the process frees when it drops it
(testdata/programs/retained.py)."""

import json
import os
import re
import signal
import time
import unittest

import harness

# With a class goes its entry among the subclasses of its base, which holds a weak reference to it and a number.
MOST_ABOUT_A_CLASS = 128
# In 3.15 something holds one small object or another until the next is made.
MOST_FOR_NOW = 64
# To 3.10 a function keeps one frame for its next call; the exception's traceback is of two functions.
MOST_OF_FRAMES = 1536
# A chunk of malloc's takes in what would be left of 16 bytes; whose it is, the heap's state decides.
MOST_LEFT_OF_A_CHUNK = 16


def measurements(text):
    """{name: bytes in use in small blocks and in malloc's chunks}"""
    found = {}
    for part in re.split(r"^=== ", text, flags=re.M)[1:]:
        name, _, rest = part.partition("\n")
        stats, _, info = rest.partition("\nmallinfo ")
        in_chunks, mmapped = map(int, info.split()[:2])
        found[name] = harness.parse_debugmallocstats(stats)["bytes_in_use"] + in_chunks + mmapped
    return found


@harness.for_each_interpreter
class Retained(harness.TargetTest):
    interpreter = None

    @classmethod
    def setUpClass(cls):
        why = None
        if cls.interpreter.version < (3,):
            why = "it does not say how many small blocks it uses"
        elif cls.interpreter.free_threaded:
            why = "it has mimalloc, which does not say what it uses"
        elif cls.interpreter.build != "release":
            why = "its allocator's figures are those of another layer"
        if why:
            harness.skipped("what %s frees" % cls.interpreter, why)
            raise unittest.SkipTest(why)
        directory = cls.temporary_directory()
        argv = [cls.interpreter.path, "-B", "-S", os.path.join(harness.PROGRAMS, "retained.py"), directory]
        # Chunks that a thread caches count as in use for mallinfo2.
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
        target = harness.Target(argv, directory, env=environment)
        cls.addClassCleanup(target.stop)
        target.wait_ready()
        with open(os.path.join(directory, "addresses.json")) as file:
            cls.addresses = json.load(file)
        cls.views = [("live", cls.answers(["--pid", str(target.pid)]))]
        if harness.why_no_gcore():
            harness.skipped("gcore of what is retained", harness.why_no_gcore())
        else:
            cls.views.append(("gcore", cls.answers([target.gcore()])))
        os.kill(target.pid, signal.SIGUSR1)
        for _ in range(harness.RUN_SECONDS * 20):
            if os.path.exists(os.path.join(directory, "done")):
                break
            time.sleep(0.05)
        in_use = measurements(target.stderr())
        names = ["start"] + list(cls.addresses)
        cls.freed = {name: in_use[before] - in_use[name] for before, name in zip(names, names[1:])}

    @classmethod
    def answers(cls, arguments):
        documents = {}
        for name, address in cls.addresses.items():
            documents[name] = harness.check_contract(harness.heapcore("retained", *arguments, hex(address), "--json"))
        documents["refs"] = harness.check_contract(
            harness.heapcore("refs", *arguments, hex(cls.addresses["ring"]), "--retained", "--json"))
        documents[None] = harness.check_contract(harness.heapcore("retained", *arguments, "--json", "--limit", "0"))
        return documents

    def test_retained_is_what_is_freed(self):
        for label, documents in self.views:
            with self.subTest(label):
                retained = {name: documents[name]["dominators"][-1]["retained_bytes"] for name in self.addresses}
                for name, bytes in retained.items():
                    over = self.freed[name] - bytes
                    if abs(over) <= MOST_LEFT_OF_A_CHUNK or self.is_known(name, over):
                        retained[name] = self.freed[name]
                self.assertEqual(harness.differences(self.freed, retained, 40), [])

    def is_known(self, name, over):
        if name == "exception" and self.interpreter.version < (3, 11):
            return -MOST_OF_FRAMES <= over <= 0
        if self.interpreter.version >= (3, 15) and 0 <= over <= MOST_FOR_NOW:
            return True
        return name == "class" and 0 <= over <= MOST_ABOUT_A_CLASS

    def test_whole_tree(self):
        """The top retains all there is; each object once."""
        for label, documents in self.views:
            with self.subTest(label):
                document = documents[None]
                self.assertEqual(len(document["objects"]), document["objects_count"])
                self.assertEqual(sum(row["retained_bytes"] for row in document["objects"]), document["total"]["bytes"])
                self.assertEqual(sum(row["bytes"] for row in document["types"]), document["total"]["bytes"])
                self.assertEqual(sum(row["count"] for row in document["modules"]), document["total"]["count"])

    def test_refs_say_what_each_retains(self):
        for label, documents in self.views:
            with self.subTest(label):
                ring = documents["ring"]["dominators"][-1]
                entry = documents["refs"]["addresses"][0]
                self.assertEqual((entry["address"], entry["retained_bytes"]), (ring["address"], ring["retained_bytes"]))
                held = {row["address"]: row["retained_bytes"] for row in documents["ring"]["dominators"]}
                holder = [r for r in entry["in"] if r["address"] in held and r["type"].endswith(".dict")]
                self.assertEqual([held[r["address"]] for r in holder], [r["retained_bytes"] for r in holder])
                self.assertTrue(holder)

    def test_paths(self):
        for label, documents in self.views:
            with self.subTest(label):
                for name in self.addresses:
                    row = documents[name]["dominators"][-1]
                    self.assertEqual((row["root"], row["path"]), ("interpreter", "__main__.HELD[<str>]"))


if __name__ == "__main__":
    harness.main()
