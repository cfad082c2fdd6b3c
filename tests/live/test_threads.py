"""`heapcore threads` against sys._current_frames(), the tasks themselves, and gdb's native stacks (stacks.py)."""

import json
import os
import subprocess

import harness

RUN_SECONDS = 120
EVALUATION = ("_PyEval_EvalFrameDefault", "PyEval_EvalFrameEx")

# Prints of each thread its id and, for each frame that is on the stack (not inlined, not guessed for a tail call), the
# instruction and the function.
GDB_SCRIPT = """
import gdb
for thread in gdb.selected_inferior().threads():
    thread.switch()
    frame = gdb.newest_frame()
    print("THREAD", thread.ptid[1])
    while frame is not None:
        if frame.type() in (gdb.NORMAL_FRAME, gdb.SIGTRAMP_FRAME):
            print("FRAME", hex(frame.pc()), frame.function() or frame.name())
        frame = frame.older()
"""


def gdb_stacks(directory, executable, core):
    """{thread id: [(pc, function)]}"""
    script = os.path.join(directory, "stacks_gdb.py")
    with open(script, "w") as file:
        file.write(GDB_SCRIPT)
    run = subprocess.run(["gdb", "-batch", "-nx", "-iex", "set debuginfod enabled off", "-ex", "set backtrace past-main on",
                          "-ex", "set backtrace past-entry on", "-x", script, executable, core],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=RUN_SECONDS,
                         text=True)
    stacks = {}
    for line in run.stdout.splitlines():
        words = line.split()
        if words[:1] == ["THREAD"]:
            frames = stacks.setdefault(int(words[1]), [])
        elif words[:1] == ["FRAME"]:
            frames.append((int(words[1], 16), words[2]))
    return stacks


@harness.for_each_interpreter
class Threads(harness.TargetTest):
    interpreter = None

    @classmethod
    def setUpClass(cls):
        cls.target = cls.start_python(cls.interpreter, "stacks.py")
        with open(os.path.join(cls.target.directory, "stacks.json")) as file:
            cls.truth = json.load(file)
        cls.pid = cls.target.pid
        cls.views = [("live", cls.answer("--pid", str(cls.pid)))]
        cls.core = None
        if harness.why_no_gcore():
            harness.skipped("gcore of the threads", harness.why_no_gcore())
        else:
            core = cls.target.gcore()
            document = cls.answer(core)
            if "thread-memory-missing" in [warning["code"] for warning in document["warnings"]]:
                harness.skipped("gcore of the threads of %s" % cls.interpreter, "gdb left their stacks out of it")
            else:
                cls.core = core
                cls.views.append(("gcore", document))

    @staticmethod
    def answer(*words):
        return harness.check_contract(harness.heapcore("threads", *words, "--json"))

    def thread_named(self, document, name):
        found = [thread for thread in document["threads"] if thread["python_name"] == name]
        self.assertEqual(len(found), 1, name)
        return found[0]

    @staticmethod
    def python_frames(thread):
        return [[frame["function"], frame["file"], frame["line"]] for frame in thread["frames"]
                if frame["kind"] == "python"]

    def test_python_frames(self):
        for label, document in self.views:
            for expected in self.truth["threads"]:
                with self.subTest(label, thread=expected["name"]):
                    thread = self.thread_named(document, expected["name"])
                    self.assertEqual(self.python_frames(thread), expected["frames"])
                    if expected["native_id"] is not None:
                        self.assertEqual(thread["tid"], expected["native_id"])

    def test_main_thread(self):
        for label, document in self.views:
            with self.subTest(label):
                thread = self.thread_named(document, "MainThread")
                self.assertEqual(thread["tid"], self.pid)
                self.assertEqual([frame[0] for frame in self.python_frames(thread)],
                                 ["say_and_sleep", "main", "<module>"])

    def test_each_frame_lies_where_it_was_called(self):
        """Python's frames are among the native ones: sorted() between the function that called it and the key."""
        for label, document in self.views:
            with self.subTest(label):
                frames = self.thread_named(document, "sorts")["frames"]
                names = [(frame["function"] or "").split(".")[-1] for frame in frames]
                key, caller = names.index("<lambda>"), names.index("wait_in_sort")
                between = frames[key + 1:caller]
                self.assertTrue(between)
                self.assertEqual({frame["kind"] for frame in between}, {"native"})
                self.assertEqual(frames[-1]["kind"], "native")

    def test_what_only_a_local_holds(self):
        for label, document in self.views:
            for name, address in self.truth["payloads"].items():
                with self.subTest(label, thread=name):
                    found = [(frame, local) for frame in self.thread_named(document, name)["frames"]
                             for local in frame.get("locals", ()) if local["address"] == hex(address)]
                    self.assertEqual(len(found), 1)
                    frame, local = found[0]
                    self.assertEqual((local["name"], local["held_here_only"]), ("payload", True))
                    self.assertGreater(local["retained_bytes"], 20 * 10000)
                    self.assertLess(local["retained_bytes"], 20 * 10300)  # mimalloc's blocks are of 10,240 bytes
                    self.assertGreaterEqual(frame["retained_bytes"], local["retained_bytes"])

    def test_what_locals_hold_together(self):
        """It goes with their frame, and not with one that was called with it."""
        for label, document in self.views:
            with self.subTest(label):
                frames = self.thread_named(document, "shares")["frames"]
                outer, inner = [next(frame for frame in frames if (frame["function"] or "").split(".")[-1] == name)
                                for name in ("wait_in_call", "wait_with")]
                self.assertGreater(outer["retained_bytes"], 20 * 10000)
                self.assertLess(outer["retained_bytes"], 20 * 10300)
                self.assertLess(inner["retained_bytes"], 10000)
                said = {local["name"]: (local["held_here_only"], local["held_by_caller"])
                        for frame in (outer, inner) for local in frame["locals"] if local["name"] != "_"}  # in 2.7
                self.assertEqual(said, {"first": (True, False), "second": (True, False), "shared": (False, True)})
                for local in outer["locals"]:
                    self.assertLess(local["retained_bytes"], 10000)

    def test_tasks(self):
        for label, document in self.views:
            with self.subTest(label):
                expected = sorted([task["name"] or "", task["function"], task["line"]] for task in self.truth["tasks"])
                tasks = [[task["name"] or "", task["function"], task["line"]] for task in document["tasks"]]
                self.assertEqual([task for task in sorted(tasks) if task[1] == "handle"], expected)
                for task in document["tasks"]:
                    if task["function"] == "handle":
                        self.assertEqual(task["waits_for_type"], "_asyncio.Future")

    def test_native_frames_as_gdb_has_them(self):
        if self.core is None:
            self.skipTest("there is no core of it that holds the stacks")
        if not harness.is_elf(self.interpreter.path):
            self.skipTest("gdb is not told which files a program has that a script starts through a linker of its own")
        stacks = gdb_stacks(self.target.directory, self.interpreter.path, self.core)
        document = dict(self.views)["gcore"]
        self.assertEqual(set(stacks), {thread["tid"] for thread in document["threads"]})
        for thread in document["threads"]:
            with self.subTest(thread=thread["python_name"]):
                expected = [pc for pc, name in stacks[thread["tid"]] if not name.startswith(EVALUATION)]
                actual = [int(frame["address"], 16) for frame in thread["frames"] if frame["kind"] == "native"]
                self.assertEqual(list(map(hex, actual)), list(map(hex, expected)))

    def test_text(self):
        answer = harness.heapcore("threads", "--pid", str(self.pid))
        self.assertIn(answer.status, (0, 1))
        for expected in self.truth["threads"]:
            self.assertIn('"%s"' % expected["name"], answer.stdout)
            for function, file, line in expected["frames"]:
                self.assertIn("%s (%s:%d)" % (function, file, line), answer.stdout)


if __name__ == "__main__":
    harness.main()
