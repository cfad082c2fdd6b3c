"""What `cycles` calls garbage, against what gc.collect() finds under gc.DEBUG_SAVEALL in the same process afterwards
(testdata/programs/garbage.py); and the cycles it shows."""

import json
import os
import signal
import time
import unittest

import harness


@harness.for_each_interpreter
class Cycles(harness.TargetTest):
    interpreter = None

    @classmethod
    def setUpClass(cls):
        target = cls.start_python(cls.interpreter, "garbage.py")
        cls.views = [("live", cls.ask("--pid", str(target.pid)))]
        if harness.why_no_gcore():
            harness.skipped("gcore of garbage", harness.why_no_gcore())
        else:
            cls.views.append(("gcore", cls.ask(target.gcore())))
        os.kill(target.pid, signal.SIGUSR1)
        path = os.path.join(target.directory, "garbage.json")
        for _ in range(harness.RUN_SECONDS * 20):
            if os.path.exists(path):
                break
            time.sleep(0.05)
        with open(path) as file:
            cls.truth = json.load(file)

    @classmethod
    def ask(cls, *arguments):
        return harness.check_contract(harness.heapcore("cycles", *arguments, "--json", "--limit", "0"))

    def test_garbage_exactly(self):
        expected = {(row["module"], row["name"]): row["count"] for row in self.truth["types"]}
        for label, document in self.views:
            with self.subTest(label):
                garbage = document["garbage"]
                actual = {}
                for row in garbage["types"]:
                    key = row["module"], row["name"]
                    actual[key] = actual.get(key, 0) + row["count"]
                self.assertEqual(harness.differences(expected, actual, 40), [])
                self.assertEqual(garbage["count"], sum(expected.values()))
                self.assertGreaterEqual(garbage["retained_bytes"], garbage["bytes"])

    def test_finalizers(self):
        """Those classes have one that their own __del__ says, as hasattr() does."""
        expected = {(row["module"], row["name"]) for row in self.truth["types"] if row["has_finalizer"]}
        self.assertTrue(expected)
        for label, document in self.views:
            with self.subTest(label):
                found = {(row["module"], row["name"]) for row in document["garbage"]["types"] if row["has_finalizer"]}
                self.assertEqual(found, expected)

    def test_generations(self):
        """All garbage was made after the last collection: it is in the youngest."""
        for label, document in self.views:
            with self.subTest(label):
                if self.interpreter.free_threaded:
                    self.assertEqual(document["generations"], [])
                    continue
                garbage = [generation["garbage"] for generation in document["generations"]]
                self.assertEqual(garbage, [document["garbage"]["count"], 0, 0])
                tracked = [generation["tracked"] for generation in document["generations"]]
                if self.truth["generations"] is not None:
                    for actual, expected in zip(tracked, self.truth["generations"]):
                        self.assertLessEqual(abs(actual - expected), 5, (tracked, self.truth["generations"]))

    def test_gc_garbage(self):
        for label, document in self.views:
            with self.subTest(label):
                self.assertEqual(document["gc_garbage"], {"address": self.truth["gc_garbage"]["address"],
                                                          "count": self.truth["gc_garbage"]["count"]})

    def test_collector_is_off(self):
        for label, document in self.views:
            with self.subTest(label):
                self.assertFalse(document["gc_enabled"])

    def test_garbage_is_in_cycles_of_garbage(self):
        """What is garbage is unreachable; and cycles in use are not garbage."""
        for label, document in self.views:
            with self.subTest(label):
                for group in document["cycles"]:
                    self.assertFalse(group["garbage"] and group["reachable"], group)
                    self.assertGreaterEqual(group["retained_bytes"], group["bytes"], group)
                self.assertLessEqual(sum(g["count"] for g in document["cycles"] if g["garbage"]),
                                     document["garbage"]["count"])

    def test_a_long_cycle(self):
        """However long, its way is named."""
        for label, document in self.views:
            with self.subTest(label):
                long = [group["closing_edge"] for group in document["cycles"] if group["objects"] >= 150001 and len(group["types"]) == 1]
                self.assertEqual([edge.split(".")[-1] for edge in long], ["list[0]"])

    def test_a_known_cycle_in_use(self):
        way = "builtins.dict[<str>] -> builtins.list[0]"
        if self.interpreter.version < (3,):
            way = way.replace("builtins", "__builtin__")
        for label, document in self.views:
            with self.subTest(label):
                found = [g["count"] for g in document["cycles"] if g["reachable"] and g["text"] == way]
                self.assertEqual(found, [20])


if __name__ == "__main__":
    harness.main()
