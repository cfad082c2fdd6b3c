"""The finding that explains a process, against what the process regains when it applies the cure: the programs of
testdata/programs/stories."""

import json
import os
import signal
import subprocess
import time
import unittest

import harness

STORIES = os.path.join(harness.PROGRAMS, "stories")
UNOWNED = 0.02  # of malloc's chunks in use, at most
UNOWNED_AT_START = 40 << 10  # bytes that C libraries have for themselves when they are loaded; whose is not known
NEAR = 0.05  # how far a finding's bytes may be from what the process regains


class Story:
    """The finding that must come first: its code, which of the process's measurements its bytes are, the words that its
    title or evidence must have, and the words that its advice must have."""

    def __init__(self, name, code, truth, evidence, advice, needs=(), second=None, severity="high", oldest=(3,)):
        self.name, self.code, self.truth, self.evidence, self.advice = name, code, truth, evidence, advice
        self.needs, self.second, self.severity, self.oldest = needs, second, severity, oldest


def freed(told):
    return told["freed_bytes"]


STORIES_TOLD = [
    Story("registry", "static-registry", freed, ["__main__.Processor.instance_map", "40,000 __main__.Processor"],
          ["WeakValueDictionary"]),
    Story("registry_of_lists", "static-registry", freed, ["__main__.sessions", "30,000 __main__.Session"], ["take each"]),
    Story("cycles", "uncollected-cycles", freed,
          ["200 cycles", "__main__.Frame.table -> __main__.Accessor._frame", "gc.disable()"],
          ["gc.enable()", "__main__.Accessor._frame", "weakref"]),
    Story("cycles_closure", "uncollected-cycles", freed, ["1,500 cycles", "__main__.Request.on_done", "__closure__"],
          ["__main__.Request.on_done"]),
    Story("accessor", "uncollected-cycles", freed, ["60 cycles", "DataFrame", "TableAccessor", "_dataframe"],
          ["TableAccessor._dataframe"], needs=("pandas",)),
    Story("high_water", "obmalloc-fragmentation", lambda told: told["arena_bytes"], ["__main__.Row", "held by __main__.survivors[...]"],
          ["Recycling"]),
    # What the cure frees is the survivors themselves and what lies free between them.
    Story("high_water_malloc", "malloc-fragmentation", lambda told: told["resident_bytes"] - told["freed_bytes"],
          ["free chunks lie between chunks in use"], ["before or apart"]),
    Story("untrimmed", "untrimmed-malloc", lambda told: told["resident_bytes"], ["malloc_trim"], ["malloc_trim(0)"]),
    Story("two_causes", "unbounded-cache", lambda told: told["freed_bytes"] - told["cycles_bytes"],
          ["__main__.Renderer.render", "lru_cache", "maxsize=None", "its keys hold __main__.Renderer"], ["maxsize"],
          second=("uncollected-cycles", lambda told: told["cycles_bytes"])),
    Story("tracebacks", "traceback-pins-frames", freed, ["__main__.failures", "1,000 ValueError"], ["__traceback__"]),
    Story("tasks", "task-pileup", lambda told: told["payload_bytes"], ["1,500 asyncio tasks", "serve (", "Future"],
          ["Semaphore"], oldest=(3, 7)),
    Story("native", "native-growth", freed, ["blocks of 1.02 KiB"], ["native"]),
    Story("lost", "lost-references", freed, ["__main__.Record"], ["audit"]),
    Story("query_log", "debug-query-log", freed, ["__main__.connection.queries_log"], ["DEBUG"]),
    Story("wasteful", "waste", freed, ["duplicate strings"], ["sys.intern"], severity="medium"),
    Story("dominant", "dominant-holder", freed, ["local table in work"], ["retained"], severity="low"),
]

# What must have no finding, or none but that a live thing holds much.
HEALTHY = [("healthy_start", ()), ("healthy_server", ()), ("healthy_data", ("numpy", "pandas"))]


def can_import(interpreter, modules):
    code = "import " + ", ".join(modules) if modules else ""
    run = subprocess.run([interpreter.path, "-B", "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return run.returncode == 0


@harness.for_each_interpreter
class Stories(harness.TargetTest):
    interpreter = None

    @classmethod
    def setUpClass(cls):
        why = None
        if cls.interpreter.version < (3, 6):
            why = "the programs are written for Python 3"
        elif cls.interpreter.free_threaded:
            why = "mimalloc does not say what it uses"
        elif cls.interpreter.build != "release":
            why = "its allocator's figures are those of another layer"
        if why:
            harness.skipped("stories in %s" % cls.interpreter, why)
            raise unittest.SkipTest(why)

    def tell(self, story):
        """{view: document}, and what the process says after its cure."""
        directory = self.temporary_directory()
        told = os.path.join(directory, "told.json")
        target = harness.Target([self.interpreter.path, "-B", os.path.join(STORIES, story.name + ".py"), told], directory)
        self.addCleanup(target.stop)
        target.wait_ready()
        views = {"live": self.report("--pid", str(target.pid))}
        if harness.why_no_gcore():
            harness.skipped("gcore of the stories", harness.why_no_gcore())
        else:
            core = target.gcore()
            views["gcore"] = self.report(core)
            os.unlink(core)
        os.kill(target.pid, signal.SIGUSR1)
        deadline = time.monotonic() + harness.RUN_SECONDS
        while not os.path.exists(told) and time.monotonic() < deadline:
            time.sleep(0.02)
        with open(told) as file:
            return views, json.load(file)

    def report(self, *arguments):
        return harness.check_contract(harness.heapcore("report", *arguments, "--json"))

    def check(self, finding, code, truth, view, severity="high"):
        self.assertEqual((finding["code"], finding["severity"]), (code, severity), view)
        self.assertLessEqual(abs(finding["bytes"] - truth), NEAR * truth,
                             "%s: the finding says %d bytes, the process regained %d" % (view, finding["bytes"], truth))

    def test_stories(self):
        for story in STORIES_TOLD:
            why = "it is too old" if self.interpreter.version < story.oldest else self.why_not(story.needs)
            if why:
                harness.skipped("the story %s in %s" % (story.name, self.interpreter), why)
                continue
            with self.subTest(story.name):
                views, told = self.tell(story)
                for view, document in views.items():
                    self.assertTrue(document["findings"], view)
                    first = document["findings"][0]
                    self.check(first, story.code, story.truth(told), view, story.severity)
                    said = "\n".join([first["title"]] + first["evidence"])
                    self.assertEqual([words for words in story.evidence if words not in said], [], said)
                    self.assertEqual([words for words in story.advice if words not in first["advice"]], [], first["advice"])
                    if story.second:
                        code, truth = story.second
                        self.check(document["findings"][1], code, truth(told), view)
                    owners = document["malloc_owners"]
                    if story.name not in ("native", "untrimmed"):  # which call malloc themselves
                        bound = max(UNOWNED * owners["total"]["bytes"], UNOWNED_AT_START)
                        self.assertLessEqual(owners["unowned"]["bytes"], bound, view)
                    grave = [finding["code"] for finding in document["findings"] if finding["severity"] == "high"]
                    expected = [story.code] if story.severity == "high" else []
                    if story.second:
                        expected.append(story.second[0])
                    self.assertEqual(grave, expected, view)

    def test_healthy_programs(self):
        for name, needs in HEALTHY:
            if self.why_not(needs):
                harness.skipped("the healthy program %s in %s" % (name, self.interpreter), self.why_not(needs))
                continue
            with self.subTest(name):
                views, _ = self.tell(Story(name, None, None, [], []))
                for view, document in views.items():
                    said = [(finding["severity"], finding["code"], finding["title"]) for finding in document["findings"]]
                    self.assertEqual([each for each in said if each[:2] != ("low", "dominant-holder")], [], view)

    def why_not(self, modules):
        return "" if can_import(self.interpreter, modules) else "it has no " + ", ".join(modules)


class Codes(unittest.TestCase):
    def test_each_has_a_story(self):
        told = {story.code for story in STORIES_TOLD} | {story.second[0] for story in STORIES_TOLD if story.second}
        refused = harness.heapcore("report", os.path.join(harness.ROOT, "testdata", "leaky_worker.core.zst"), "--fail-if", "finding=?")
        known = refused.stderr.strip().split(" one of ")[-1].split(", ")
        told.add("mimalloc-fragmentation")  # test_sparse_mimalloc.py, of free-threaded builds
        self.assertEqual(sorted(told), sorted(known))


if __name__ == "__main__":
    harness.main()
