"""Who holds an object, by the name of the way that leads there (testdata/programs/held.py)."""

import json
import os
import re
import shutil
import subprocess
import time
import unittest

import harness


def library(directory):
    """held_by_c.c, compiled; None if there is no compiler."""
    if shutil.which("cc") is None:
        harness.skipped("objects that C code holds", "there is no C compiler")
        return None
    path = os.path.join(directory, "held_by_c.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-O0", "-g", "-o", path, os.path.join(harness.PROGRAMS, "held_by_c.c")], check=True)
    return path


@harness.for_each_interpreter
class Paths(harness.TargetTest):
    interpreter = None

    @classmethod
    def setUpClass(cls):
        directory = cls.temporary_directory()
        argv = [cls.interpreter.path, "-B", "-S", os.path.join(harness.PROGRAMS, "held.py"), directory]
        built = library(directory)
        target = cls.start(argv + [built] * bool(built), directory=directory).wait_ready()
        path = os.path.join(directory, "held.json")
        for _ in range(harness.START_SECONDS * 20):
            if os.path.exists(path):
                break
            time.sleep(0.05)
        target.wait_asleep()
        with open(path) as file:
            cls.truth = json.load(file)
        for way in ("numpy array", "sqlite function", "task", "context variable", "C static"):
            if way not in cls.truth["held"]:
                harness.skipped("an object held by: %s, in %s" % (way, cls.interpreter), "this Python has no such thing")
        cls.views = [("live", ["--pid", str(target.pid)])]
        if harness.why_no_gcore():
            harness.skipped("gcore of held objects", harness.why_no_gcore())
        else:
            cls.views.append(("gcore", [target.gcore()]))

    def ask(self, arguments, what, *options):
        return harness.check_contract(harness.heapcore("paths", *arguments, what, "--json", *options))

    def expected(self, address, path):
        path = path.replace("FILE", self.truth["file"]).replace("ADDRESS", hex(address))
        path = path.replace("TID", str(self.truth["lines"].get("TID")))
        function = re.search(r" in (?:\w+\.)*(\w+) \(.*:LINE", path)
        return path.replace("LINE", str(self.truth["lines"][function.group(1)])) if function else path

    def agrees(self, way, expected, text):
        text = text.replace(".gi_frame -> local", " -> local").replace(".cr_frame -> local", " -> local")
        if way == "task":
            if self.interpreter.version < (3, 8):  # tasks have no names
                expected = expected.replace(" of task 'the worker'", "")
            return text.replace(".gi_frame", "").endswith(expected)
        if self.interpreter.version < (3,):
            text = text.replace("os.path.", "posixpath.")
        return text.startswith(expected) if way == "native stack" else text == expected

    def test_each_way(self):
        for label, arguments in self.views:
            with self.subTest(label):
                wrong = []
                for way, (address, path) in self.truth["held"].items():
                    document = self.ask(arguments, hex(address), "--limit", "1")
                    paths = document["paths"]
                    if way == "native stack" and "thread-memory-missing" in [w["code"] for w in document["warnings"]]:
                        harness.skipped("an object on a native stack, %s" % label, "the core does not hold the stack")
                        continue
                    self.assertEqual(len(paths), 1, way)
                    self.assertEqual(int(paths[0]["steps"][-1]["address"], 16), address)
                    if path is None:  # a path of the version's own; but one with a name
                        if paths[0]["root"]["kind"] in ("unexplained", "unreachable"):
                            wrong.append((way, paths[0]["text"]))
                    elif not self.agrees(way, self.expected(address, path), paths[0]["text"]):
                        wrong.append((way, self.expected(address, path), paths[0]["text"]))
                self.assertEqual(wrong, [])

    def test_keys_are_shown_when_asked_for(self):
        for label, arguments in self.views:
            with self.subTest(label):
                address = hex(self.truth["held"]["dict"][0])
                texts = [self.ask(arguments, address, *more)["paths"][0]["text"] for more in ((), ("--values",))]
                self.assertEqual(texts, ["__main__.in_dict[<str>]", "__main__.in_dict['key']"])

    def test_of_a_type(self):
        for label, arguments in self.views:
            with self.subTest(label):
                things = self.ask(arguments, "__main__.Thing", "--limit", "0")
                self.assertEqual(things["total"]["count"], len(self.truth["held"]) - 1)  # one is a Registry
                self.assertEqual(sum(path["count"] for path in things["paths"]), things["total"]["count"])
                registry = self.ask(arguments, "__main__.Registry")["paths"]
                self.assertEqual([(p["text"], p["count"]) for p in registry], [("__main__.Registry.instances[...]", 101)])
                chain = self.ask(arguments, "__main__.Link")["paths"]
                self.assertEqual([(p["text"], p["count"]) for p in chain if p["count"] > 1],
                                 [("__main__.chain.following...", 4999)])

    def test_all_referrers(self):
        """One object, held in two ways."""
        for label, arguments in self.views:
            with self.subTest(label):
                address = self.truth["held"]["weak and strong"][0]
                document = self.ask(arguments, hex(address))
                self.assertEqual([path["text"] for path in document["paths"]], ["__main__.bound.content"])
                many = self.ask(arguments, hex(int(document["paths"][0]["steps"][-2]["address"], 16)), "--limit", "0")
                self.assertEqual(len(many["paths"]), many["paths_count"])

    def test_dot(self):
        for label, arguments in self.views:
            with self.subTest(label):
                answer = harness.heapcore("paths", *arguments, "__main__.Thing", "--dot", "--limit", "0")
                lines = answer.stdout.splitlines()
                self.assertEqual((lines[0], lines[-1]), ("digraph paths {", "}"))
                nodes = {line.split()[0] for line in lines if re.match(r"  n\d+ \[label=", line)}
                ends = {end for line in lines for end in re.findall(r"^  (n\d+) -> (n\d+) ", line) for end in end}
                self.assertEqual(nodes, ends)
                if shutil.which("dot"):
                    subprocess.run(["dot", "-Tplain"], input=answer.stdout, check=True, stdout=subprocess.DEVNULL, text=True)


if __name__ == "__main__":
    harness.main()
