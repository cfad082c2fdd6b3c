"""`diff` between cores of one process, against what the process itself counted: the story of the HTTP sessions, written
with requests (testdata/programs/stories/sessions.py), and objects that come and go at the same addresses
(testdata/programs/comings.py)."""

import json
import os
import signal
import subprocess
import unittest

import harness

SESSIONS = os.path.join(harness.PROGRAMS, "stories", "sessions.py")
COMINGS = os.path.join(harness.PROGRAMS, "comings.py")


def named(document, name):
    found = [row for row in document["types"] if row["module"] + "." + row["name"] == name]
    return found[0] if found else None


def check_sums(test, document):
    for row in document["types"] + [document["total"]]:
        for column in ("count", "bytes"):
            test.assertEqual(row["newer"][column], row["survived"][column] + row["new"][column], row)
        test.assertEqual(row["older"]["count"], row["survived"]["count"] + row["gone"]["count"], row)
        test.assertEqual(row["grown_bytes"], row["newer"]["bytes"] - row["older"]["bytes"], row)
    for part in ("older", "newer", "new", "gone", "survived"):
        test.assertEqual(document["total"][part]["count"], sum(row[part]["count"] for row in document["types"]))


class DiffTest(harness.TargetTest):
    def start_program(self, program, *arguments):
        directory = self.temporary_directory()
        self.told = os.path.join(directory, "told.json")
        self.target = harness.Target([self.interpreter.path, "-B", program, self.told, *arguments], directory)
        self.addCleanup(self.target.stop)
        self.target.wait_ready()

    def go_on(self):
        os.kill(self.target.pid, signal.SIGUSR1)
        self.target.wait_ready()

    def core(self, name):
        core = self.target.gcore()
        os.rename(core, os.path.join(self.target.directory, name))
        return os.path.join(self.target.directory, name)

    def diff(self, *arguments):
        document = harness.check_contract(harness.heapcore("diff", *arguments, "--json", "--limit", "0"))
        check_sums(self, document)
        return document


@harness.for_each_interpreter
class Sessions(DiffTest):
    interpreter = None

    def test_the_story_of_the_sessions(self):
        has = subprocess.run([self.interpreter.path, "-c", "import requests"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        why = "it has no requests" if has.returncode != 0 else harness.why_no_gcore()
        if why:
            harness.skipped("the story of the sessions in %s" % self.interpreter, why)
            raise unittest.SkipTest(why)
        self.start_program(SESSIONS)
        first = self.core("first.core")
        self.go_on()
        second = self.core("second.core")
        self.go_on()
        with open(self.told) as file:
            told = json.load(file)
        before, middle, after = told["opened"]
        views = {"two cores": (self.diff(first, second), before, middle),
                 "a core and the process": (self.diff(second, "--pid", str(self.target.pid)), middle, after)}
        for view, (document, older, newer) in views.items():
            with self.subTest(view):
                row = named(document, told["type"])
                counts = {part: row[part]["count"] for part in ("older", "newer", "new", "gone", "survived")}
                self.assertEqual(counts, {"older": older, "newer": newer, "new": newer - older, "gone": 0, "survived": older})
                most = document["holders"][0]
                self.assertEqual((most["type"], most["count"]), (told["type"], newer - older))
                self.assertTrue(most["held_by"].startswith("local storage in main"), most["held_by"])
                self.assertTrue(most["held_by"].endswith(".sessions[...]"), most["held_by"])
                # What they retain is nearly all that the heap grew by.
                self.assertGreater(most["retained_bytes"], 0.9 * document["total"]["grown_bytes"])
        self.assertEqual(self.diff(first, first)["total"]["new"], {"count": 0, "bytes": 0})


@harness.for_each_interpreter
class Comings(DiffTest):
    interpreter = None

    def test_objects_that_come_and_go(self):
        if harness.why_no_gcore():
            harness.skipped("objects that come and go, in %s" % self.interpreter, harness.why_no_gcore())
            raise unittest.SkipTest(harness.why_no_gcore())
        self.start_program(COMINGS)
        older = self.core("older.core")
        self.go_on()
        document = self.diff(older, self.core("newer.core"))
        with open(self.told) as file:
            told = json.load(file)
        for name, truth in told["types"].items():
            row = named(document, name)
            self.assertEqual({part: row[part]["count"] for part in truth}, truth, name)
        self.assertGreater(told["reused"], 100, "no address was used again, so this shows little")


class SameAndOther(unittest.TestCase):
    CORES = [os.path.join(harness.ROOT, "testdata", name + ".core.zst") for name in ("leaky_worker", "three_threads")]

    def notes(self, document):
        return [note["code"] for note in document["notes"] if note["code"] == "other-process"]

    def test_nothing_changed(self):
        document = harness.check_contract(harness.heapcore("diff", self.CORES[0], self.CORES[0], "--json", "--limit", "0"))
        changes = [row for row in document["types"] if row["grown_bytes"] or row["new"]["count"] or row["gone"]["count"]]
        self.assertEqual((changes, self.notes(document)), ([], []))

    def test_another_process(self):
        document = harness.check_contract(harness.heapcore("diff", *self.CORES, "--json"))
        self.assertEqual(self.notes(document), ["other-process"])


if __name__ == "__main__":
    harness.main()
