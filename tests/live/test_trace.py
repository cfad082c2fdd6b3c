"""`heapcore trace`: where what is in use was allocated, against tracemalloc.take_snapshot() in the process itself."""

import json
import os
import signal
import time
import unittest

import harness

PROGRAM = os.path.join(harness.PROGRAMS, "traced.py")
OTHERS = ["--exclude", "*/trace_truth.py", "--exclude", "*/tracemalloc.py", "--all-frames"]
DOMAIN = 77  # of blocks that the program itself told tracemalloc of


def rows(sites):
    """{((file, line), ...): (count, bytes)}"""
    return {tuple((frame["filename"], frame.get("lineno", 0)) for frame in site["frames"]): (site["count"], site["bytes"])
            for site in sites}


def line_of(text):
    with open(PROGRAM) as file:
        return next(i for i, line in enumerate(file, 1) if text in line)


@harness.for_each_interpreter
class Trace(harness.TargetTest):
    interpreter = None

    @classmethod
    def setUpClass(cls):
        if cls.interpreter.version < (3, 6):
            harness.skipped("tracemalloc in %s" % cls.interpreter, "it has none")
            raise unittest.SkipTest("no tracemalloc")

    def start(self, frames):
        directory = self.temporary_directory()
        argv = [self.interpreter.path, "-B"] + (["-X", "tracemalloc=%d" % frames] if frames else [])
        target = harness.Target(argv + [PROGRAM, os.path.join(directory, "told.json")], directory)
        self.addCleanup(target.stop)
        return target.wait_ready()

    def ask(self, *arguments):
        return harness.check_contract(harness.heapcore("trace", *arguments, "--json", "--limit", "0"))

    def told(self, target):
        path = os.path.join(target.directory, "told.json")
        os.kill(target.pid, signal.SIGUSR1)
        deadline = time.monotonic() + harness.RUN_SECONDS
        while not os.path.exists(path) and time.monotonic() < deadline:
            time.sleep(0.02)
        with open(path) as file:
            return json.load(file)

    def check(self, answer, told, frames):
        self.assertTrue(answer["tracing"])
        self.assertEqual(answer["max_frames"] or frames, frames)
        self.assertGreaterEqual(answer["peak_bytes"] or told["peak"], told["peak"])
        by = answer["group_by"]
        said = {tuple(map(tuple, site)): (count, size) for site, count, size in told[by]}
        found = rows(answer["sites"])
        changing = {tuple(map(tuple, site)) for site in told["changing"][by]}
        self.assertLessEqual(len(changing), 5)
        for site in changing:
            said.pop(site)
            found.pop(site, None)
        self.assertGreater(len(said), 20)
        self.assertEqual(harness.differences(said, found), [])

    def test_sites(self):
        target = self.start(10)
        where = ["--pid", str(target.pid)]
        answers = {"live by " + by: self.ask(*where, "--by", by, *OTHERS) for by in ("lineno", "filename", "traceback")}
        if harness.why_no_gcore():
            harness.skipped("gcore of the traced program", harness.why_no_gcore())
        else:
            answers["gcore"] = self.ask(target.gcore(), "--by", "traceback", *OTHERS)
        told = self.told(target)
        for name, answer in answers.items():
            with self.subTest(name):
                self.check(answer, told, 10)

    def test_one_frame(self):
        target = self.start(1)
        answer = self.ask("--pid", str(target.pid), *OTHERS)
        self.check(answer, self.told(target), 1)

    def test_what_lies_there(self):
        target = self.start(10)
        where = ["--pid", str(target.pid)]
        whole = self.ask(*where)
        sites = {site["frames"][0]["lineno"]: site for site in whole["sites"] if site["frames"][0]["filename"] == PROGRAM}
        cached = sites[line_of("cache = [")]
        self.assertEqual([each["count"] for each in cached["types"] if each["type"] == "__main__.Row"], [5000])
        blobs = sites[line_of("blobs = [")]
        self.assertEqual([each["count"] for each in blobs["types"] if each["type"].endswith("bytes")], [20])
        self.assertGreaterEqual(blobs["retained_bytes"], 20 * 100000)
        self.assertIn("__main__.blobs", blobs["path"])
        own = self.ask(*where, "--domain", str(DOMAIN))
        self.assertEqual(own["matched"], {"count": 10, "bytes": 40000})
        self.assertEqual([site["types"][0]["type"] for site in own["sites"]], ["not found"])
        line = line_of("self.cells")
        only = self.ask(*where, "--include", "*/traced.py:%d" % line)
        self.assertEqual([site["frames"][0]["lineno"] for site in only["sites"]], [line])
        inside, outside = (self.ask(*where, choice, "*/traced.py", "--all-frames") for choice in ("--include", "--exclude"))
        self.assertEqual(inside["matched"]["bytes"] + outside["matched"]["bytes"], whole["total"]["bytes"])
        if not harness.why_no_gcore():
            self.look_at_growth(target)

    def look_at_growth(self, target):
        before = target.gcore()
        os.kill(target.pid, signal.SIGUSR2)
        target.wait_ready()
        answer = self.ask("--pid", str(target.pid), "--since", before, "--include", "*/traced.py")
        grown = [site["bytes"] - site["older"]["bytes"] for site in answer["sites"]]
        self.assertEqual(grown, sorted(grown, reverse=True))
        added = [site for site in answer["sites"] if site["frames"][0]["lineno"] == line_of("cache.append")]
        self.assertEqual([each["count"] for each in added[0]["types"] if each["type"] == "__main__.Row"], [1000])
        self.assertEqual(added[0]["older"]["count"], 0)

    def test_off(self):
        answer = self.ask("--pid", str(self.start(0).pid))
        self.assertEqual((answer["tracing"], answer["sites"]), (False, []))


if __name__ == "__main__":
    harness.main()
