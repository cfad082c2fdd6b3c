"""The incident report: its sections say what the single commands say, its JSON keeps to its schema, no form of it shows
what was to be withheld, its conditions hold when they are true, and Ctrl-C leaves nothing behind."""

import contextlib
import glob
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import harness

PASSWORD = "xyzzy-9f31c07b"
PASSWORD_NAME = PASSWORD.replace("-", "_")  # a key that might be a name in the source, and is interned
HEADER_KEYS = {"schema", "heapcore", "command", "target", "warnings", "notes"}
SINGLE_COMMANDS = ("ledger", "retained", "types", "map", "pins", "waste", "cycles", "audit", "threads", "pymalloc", "malloc")


def some_interpreters():
    """The oldest, the newest, and one that is stripped: what differs between all the others has tests of its own."""
    known = [i for i in harness.interpreters() if i.version >= (3, 6)]
    stripped = [i for i in known if i.stripped and i.origin == "installed"]
    chosen = {i.path: i for i in known[:1] + stripped[:1] + known[-1:]}
    return list(chosen.values())


VALIDATOR = """
import json, sys
try:
    import jsonschema
except ImportError:
    sys.exit(3)
with open(sys.argv[1]) as file:
    schema = json.load(file)
jsonschema.Draft202012Validator.check_schema(schema)
errors = jsonschema.Draft202012Validator(schema).iter_errors(json.load(sys.stdin))
print(json.dumps(["/".join(map(str, e.absolute_path)) + ": " + e.message[:200] for e in errors][:10]))
"""


def schema_errors(document):
    """None if no Python here can tell: Debian's python3-jsonschema is Debian's Python's."""
    for python in (sys.executable, "/usr/bin/python3"):
        run = subprocess.run([python, "-c", VALIDATOR, os.path.join(harness.ROOT, "docs", "report.schema.json")],
                             input=json.dumps(document), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if run.returncode == 0:
            return json.loads(run.stdout)
        if run.returncode != 3:
            raise AssertionError(run.stderr[-1000:])
    harness.skipped("the report's JSON against docs/report.schema.json", "python3-jsonschema is not installed")
    return None


class ReportTest(harness.TargetTest):
    @classmethod
    def setUpClass(cls):
        directory = cls.temporary_directory()
        argv = [cls.interpreter.path, "-B", "-S", os.path.join(harness.PROGRAMS, "incident.py"), directory]
        env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "SERVICE_PASSWORD": PASSWORD}
        cls.target = harness.Target(argv, directory, env=env)
        cls.addClassCleanup(cls.target.stop)
        cls.target.wait_ready()
        with open(os.path.join(directory, "truth.json")) as file:
            cls.truth = json.load(file)
        cls.views = {"live": ["--pid", str(cls.target.pid)]}
        if harness.why_no_gcore():
            harness.skipped("reports of cores", harness.why_no_gcore())
        else:
            cls.views["core"] = [cls.target.gcore()]

    def written(self, view, ending, *options):
        """What -o writes into a file of that ending."""
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "report" + ending)
            answer = harness.heapcore("report", *self.views[view], "-o", path, *options)
            self.assertIn(answer.status, (0, 1), str(answer))
            self.assertEqual(answer.stdout, "", str(answer))
            self.assertEqual(os.listdir(directory), ["report" + ending])
            with open(path, encoding="utf-8") as file:
                return file.read()


class Sections(ReportTest):
    def test_json_keeps_to_its_schema(self):
        for view, target in self.views.items():
            with self.subTest(view):
                document = harness.check_contract(harness.heapcore("report", *target, "--json"))
                self.assertIn(schema_errors(document), ([], None))

    def test_a_schema_that_would_notice(self):
        document = harness.heapcore("report", *self.views["live"], "--json").document
        document["ledger"]["total"]["mapped_bytes"] = "much"
        del document["confidence"]["explained_bytes"]
        errors = schema_errors(document)
        if errors is not None:
            self.assertEqual(len(errors), 2, errors)

    def test_sections_say_what_the_commands_say(self):
        if "core" not in self.views:
            self.skipTest("no core")
        report = harness.heapcore("report", *self.views["core"], "--json").document
        for command in SINGLE_COMMANDS:
            with self.subTest(command):
                single = harness.heapcore(command, *self.views["core"], "--json").document
                alone = {key: value for key, value in single.items() if key not in HEADER_KEYS}
                self.assertEqual(list(alone), list(report[command]))
                for key, value in alone.items():
                    self.assertEqual(report[command][key], value, key)

    def test_forms_agree(self):
        if "core" not in self.views:
            self.skipTest("no core")
        said = harness.heapcore("report", *self.views["core"], "--json").document
        self.assertEqual(json.loads(self.written("core", ".json")), said)
        self.assertEqual(self.written("core", ".txt"), harness.heapcore("report", *self.views["core"]).stdout)
        page = self.written("core", ".html")
        inside = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S).group(1))
        for key in ("findings", "ledger", "retained", "cycles", "audit", "confidence", "target", "warnings"):
            self.assertEqual(inside[key], said[key], key)
        self.assertEqual(inside["types"]["total"], said["types"]["total"])

    def test_flame_graph(self):
        """What stands on something is no wider than that; and the program's objects are where it put them."""
        page = self.written("live", ".html")
        inside = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S).group(1))
        nodes = [dict(zip(("parent", "type", "edge", "address", "count", "bytes", "retained"), row)) for row in inside["ownership"]]
        whole = nodes[0]["retained"]
        self.assertGreater(whole, inside["retained"]["objects"][0]["retained_bytes"])
        self.assertLessEqual(whole, inside["retained"]["total"]["bytes"])
        above = [0] * len(nodes)
        for i, node in enumerate(nodes[1:], 1):
            self.assertLess(node["parent"], i)
            above[node["parent"]] += node["retained"]
            self.assertLessEqual(node["bytes"], node["retained"])
        for i, node in enumerate(nodes):
            self.assertLessEqual(above[i] + node["bytes"], node["retained"], node)
        self.assertEqual(above[0], whole)
        jobs = [node for node in nodes if node["type"] == "__main__.Job"]
        self.assertEqual([job["count"] for job in jobs], [2000])
        self.assertGreater(jobs[0]["retained"], 2000 * 2000)
        chain, node = [], jobs[0]
        while node is not nodes[0]:
            node = nodes[node["parent"]]
            chain.append(node["edge"])
        self.assertIn("registry", " ".join(chain))

    def test_text(self):
        for view, target in self.views.items():
            with self.subTest(view):
                answer = harness.heapcore("report", *target)
                text = answer.stdout
                headings = ["Findings", "Where the memory is", "Who holds it", "Python objects, by type", "Fragmentation and waste",
                            "Cycles and garbage", "Threads", "Allocators", "How far to trust this", "Warnings and notes"]
                places = [re.search("^" + heading + "(:.*)?$", text, re.M).start() for heading in headings]
                self.assertEqual(places, sorted(places))
                self.assertLess(text.count("\n"), 130, "more than two minutes' reading")
                self.assertIn("worker <b>bold</b>"[:15], text)

    def test_one_census(self):
        said = harness.heapcore("report", *self.views["live"], "--timings").stderr
        self.assertEqual(len(re.findall(r"^decode ", said, re.M)), 1, said)

    def test_facts(self):
        """What the program did is among what the report says."""
        for view, target in self.views.items():
            with self.subTest(view):
                document = harness.heapcore("report", *target, "--json").document
                types = harness.rows_by_type(document["types"]["types"])
                self.assertEqual(types["__main__", "Job"][0], 2000)
                self.assertFalse(document["cycles"]["gc_enabled"])
                garbage = {row["name"]: row["count"] for row in document["cycles"]["garbage"]["types"]}
                self.assertEqual((garbage.get("Left"), garbage.get("Right")), (50, 50))
                self.assertGreater(document["cycles"]["garbage"]["retained_bytes"], 50 * 20000)
                retained = {row["name"]: row["retained_bytes"] for row in document["retained"]["types"]}
                self.assertGreater(retained["Job"], 2000 * 2000)
                confidence = document["confidence"]
                self.assertEqual(confidence["mapped_bytes"], document["ledger"]["total"]["mapped_bytes"])
                self.assertGreater(confidence["explained_bytes"], 0.9 * confidence["mapped_bytes"])
                self.assertEqual("rss_bytes" in document["ledger"]["total"], view == "live")


class Secrets(ReportTest):
    def test_no_form_shows_a_secret(self):
        for view, target in self.views.items():
            forms = {"text": harness.heapcore("report", *target).stdout,
                     "json": harness.heapcore("report", *target, "--json", "--limit", "0").stdout,
                     ".html": self.written(view, ".html"), ".json": self.written(view, ".json"),
                     ".txt": self.written(view, ".txt", "--limit", "0")}
            for form, text in forms.items():
                with self.subTest(view + ", " + form):
                    self.assertGreater(len(text), 1000)
                    self.assertNotIn(PASSWORD, text)
                    self.assertNotIn(PASSWORD_NAME, text)

    def test_values_are_shown_when_asked_for(self):
        """Else the test before would say nothing: here the same secret is there."""
        for view, target in self.views.items():
            with self.subTest(view):
                self.assertIn(PASSWORD, harness.heapcore("report", *target, "--json", "--limit", "0", "--values").stdout)


class Conditions(ReportTest):
    def status(self, *conditions):
        argv = [word for condition in conditions for word in ("--fail-if", condition)]
        return harness.heapcore("report", *self.views["live"], *argv)

    def test_those_that_hold(self):
        for condition in ("retained>1M", "garbage>900K", "rss>1M", "mapped>0.001G", "python>4096", "free>1", "rss>1MiB"):
            with self.subTest(condition):
                answer = self.status(condition)
                self.assertEqual(answer.status, 4, str(answer))
                self.assertIn("--fail-if " + condition, answer.stderr)
                self.assertIn("Where the memory is", answer.stdout)

    def test_those_that_do_not(self):
        for condition in ("retained>1T", "garbage>2G", "rss>1T", "finding=debug-query-log"):
            with self.subTest(condition):
                self.assertIn(self.status(condition).status, (0, 1))

    def test_findings(self):
        found = harness.heapcore("report", *self.views["live"], "--json").document["findings"]
        worst = max((("low", "medium", "high").index(f["severity"]) for f in found), default=-1)
        for i, severity in enumerate(("low", "medium", "high")):
            with self.subTest(severity):
                self.assertEqual(self.status("finding=" + severity).status == 4, worst >= i)
        for code in {f["code"] for f in found}:
            with self.subTest(code):
                self.assertEqual(self.status("finding=" + code).status, 4)

    def test_every_code_is_known(self):
        codes = set()
        for path in glob.glob(os.path.join(harness.ROOT, "src", "analysis", "diagnose*.cc")):
            with open(path) as file:
                codes.update(re.findall(r'\badd\("([a-z-]+)"', file.read()))
        self.assertGreater(len(codes), 5)
        for code in codes:
            with self.subTest(code):
                self.assertNotEqual(self.status("finding=" + code).status, 2)

    def test_one_of_several_is_enough(self):
        self.assertEqual(self.status("retained>1T", "garbage>900K").status, 4)

    def test_bad_ones_are_named(self):
        for condition in ("retained", "retained>", "retained>much", "retained=2G", "size>2G", "finding=hihg", "finding>high",
                          "retained>-1", "retained>2X", "", "retained>1e30"):
            with self.subTest(condition):
                answer = self.status(condition)
                self.assertEqual(answer.status, 2, str(answer))
                self.assertEqual(answer.stdout, "")
                self.assertRegex(answer.stderr, "retained>SIZE.*finding=|low, medium, high or one of .*static-registry")

    def test_a_core_has_no_resident_size(self):
        if "core" in self.views:
            answer = harness.heapcore("report", *self.views["core"], "--fail-if", "rss>1G")
            self.assertEqual(answer.status, 2, str(answer))
            self.assertIn("core", answer.stderr)


class Piles(ReportTest):
    """How findings name what piles up, wherever that is."""

    @classmethod
    def setUpClass(cls):
        cls.target = cls.start([cls.interpreter.path, "-B", "-S", os.path.join(harness.PROGRAMS, "piles.py")]).wait_ready()
        cls.report = harness.heapcore("report", "--pid", str(cls.target.pid), "--json").document

    def check(self, code, severity, title, *said):
        # One more or less: a word on a native stack may look like a reference to it.
        said_of = {re.sub(r"\b(3,999|4,00[01]) ", "4,000 ", f["title"]): f for f in self.report["findings"]}
        found = [f for text, f in said_of.items() if title in text]
        self.assertEqual([(f["code"], f["severity"]) for f in found], [(code, severity)], self.report["findings"])
        text = "\n".join(found[0]["evidence"] + [found[0]["advice"]])
        self.assertEqual([words for words in said if words not in text], [], text)
        self.assertGreater(found[0]["bytes"], 3990 * 4500)
        self.assertLess(found[0]["bytes"], 1.1 * 4000 * 4800)

    def test_on_an_object_that_is_a_global(self):
        self.check("static-registry", "medium", "__main__.service.seen holds 4,000 __main__.Record", "belongs to a __main__.Service",
                   "WeakValueDictionary")

    def test_in_a_queue(self):
        self.check("unbounded-cache", "medium", "__main__.service.jobs.queue holds 4,000 dict that nobody took", "maxsize")

    def test_held_twice(self):
        self.check("static-registry", "medium", "__main__.everything[...] and other.by_name[...] together hold 4,000 __main__.Record",
                   "held by several")

    def test_in_a_linked_list(self):
        self.check("dominant-holder", "low", "__main__.head retains", "from one to the next")

    def test_no_more_than_those(self):
        self.assertEqual(len(self.report["findings"]), 4, self.report["findings"])


class Interrupted(ReportTest):
    PROGRAM = """
import os
class Node: pass
nodes = []
for i in range(150000):
    node = Node()
    node.number, node.before = i, nodes[-1:]
    nodes.append(node)
os.write(1, b"R")
while True: os.read(0, 1) or __import__("time").sleep(1000)
"""

    @classmethod
    def setUpClass(cls):
        cls.target = cls.start([cls.interpreter.path, "-S", "-c", cls.PROGRAM]).wait_ready()
        cls.views = {"live": ["--pid", str(cls.target.pid)]}
        if not harness.why_no_gcore():
            cls.views["core"] = [cls.target.gcore()]

    def interrupt(self, target, number, ending, milliseconds):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "report" + ending)
            run = subprocess.Popen([harness.binary(), "report", *target, "-o", path], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            deadline = time.monotonic() + 20
            while not os.listdir(directory) and run.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(milliseconds / 1000)
            run.send_signal(number)
            out, err = run.communicate(timeout=20)
            left = os.listdir(directory)
            if run.returncode in (0, 1):
                self.assertEqual(left, ["report" + ending])
                return False
            self.assertEqual(run.returncode, 128 + number, err)
            self.assertEqual((out, err.decode()), (b"", ""))
            self.assertEqual(left, [])
            return True

    def test_nothing_is_left_behind(self):
        interrupted = 0
        for view, target in self.views.items():
            for number in (signal.SIGINT, signal.SIGTERM):
                for ending, milliseconds in ((".html", 0), (".json", 30), (".html", 150), (".txt", 300)):
                    with self.subTest("%s, signal %d after %d ms" % (view, number, milliseconds)):
                        interrupted += self.interrupt(target, number, ending, milliseconds)
        self.assertGreater(interrupted, len(self.views) * 2, "too fast to be interrupted")
        with open("/proc/%d/status" % self.target.pid) as file:
            self.assertIn("TracerPid:\t0\n", file.read())

    def on_a_terminal(self, milliseconds=None):
        """The status of a report, and what a terminal got to see of it on standard error."""
        screen, stderr = pty.openpty()
        run = subprocess.Popen([harness.binary(), "report", *self.views["live"], "--threads", "1"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=stderr)
        os.close(stderr)
        seen = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while True:
                seen += os.read(screen, 1 << 12)
                if milliseconds is not None and b"\r" in seen:
                    time.sleep(milliseconds / 1000)
                    run.send_signal(signal.SIGINT)
                    milliseconds = None
        os.close(screen)
        return run.wait(timeout=60), seen.decode()

    def test_progress_is_shown_and_goes(self):
        status, seen = self.on_a_terminal()
        self.assertIn(status, (0, 1))
        self.assertRegex(seen, r"(link|dominate|retained|cycles|pins|diagnose) (\.\.\.| *\d+ %)")
        self.assertEqual(seen[-4:], "\r\x1b[K")
        status, seen = self.on_a_terminal(milliseconds=20)
        self.assertEqual(status, 130, seen)
        self.assertEqual(seen[-4:], "\r\x1b[K")

    def test_an_old_report_survives(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "report.txt")
            with open(path, "w") as file:
                file.write("the old one")
            os.chmod(path, 0o640)
            run = subprocess.Popen([harness.binary(), "report", *self.views["live"], "-o", path], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while len(os.listdir(directory)) < 2 and run.poll() is None:
                time.sleep(0.001)
            run.send_signal(signal.SIGINT)
            self.assertEqual(run.wait(timeout=20), 130)
            with open(path) as file:
                self.assertEqual(file.read(), "the old one")
            self.assertEqual(os.listdir(directory), ["report.txt"])
            harness.heapcore("report", *self.views["live"], "-o", path)
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o640)
            with open(path) as file:
                self.assertIn("Where the memory is", file.read())

    def test_where_it_cannot_be_written_it_is_said_at_once(self):
        answer = harness.heapcore("report", *self.views["live"], "-o", "/nowhere/at/all/report.html")
        self.assertEqual(answer.status, 3, str(answer))
        self.assertIn("/nowhere/at/all/report.html cannot be written", answer.stderr)

    def test_ignored_signals_stay_ignored(self):
        argv = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", harness.binary(), "report", *self.views["live"]]
        run = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        time.sleep(0.2)
        run.send_signal(signal.SIGINT)
        out, _ = run.communicate(timeout=60)
        self.assertIn(run.returncode, (0, 1))
        self.assertIn(b"Where the memory is", out)


for base in (Sections, Secrets, Piles):
    harness.make_test_classes(base, some_interpreters())
for base in (Conditions, Interrupted):
    harness.make_test_classes(base, some_interpreters()[:1])


if __name__ == "__main__":
    harness.main()
