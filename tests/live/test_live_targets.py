"""Live targets in unusual states and places, --no-stop, --max-memory, watch: what is said, and that they go on."""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import time
import unittest

import harness

UNREADABLE = 3
PTRACE_SEIZE, PTRACE_DETACH, PTRACE_INTERRUPT = 0x4206, 17, 0x4207

# Holds some memory, and says after each turn that it runs.
COUNTS = """
import os, sys, time
ballast = [str(i) * 3 for i in range(int(sys.argv[1]))]
os.write(1, b"R")
while True:
    os.write(1, b".")
    time.sleep(0.001)
"""

FORKS = """
import os
os.write(1, b"R")
while True:
    child = os.fork()
    if child == 0: os._exit(7)
    status = os.waitpid(child, 0)[1]
    os.write(1, b"." if os.WEXITSTATUS(status) == 7 else b"X")
"""

MAPS = """
import mmap, os, threading
def turn():
    while True:
        kept = [mmap.mmap(-1, 4096 * (1 + i)) for i in range(64)]
        for memory in kept: memory[::4096] = b"x" * (len(memory) // 4096)
        for memory in kept: memory.close()
for _ in range(3): threading.Thread(target=turn, daemon=True).start()
os.write(1, b"R")
while True: os.write(1, b".")
"""

GROWS = """
import os, time
kept = []
os.write(1, b"R")
for _ in range(60):
    kept.append(bytearray(os.urandom(1 << 20)))
    time.sleep(0.05)
time.sleep(0.5)
"""


def python():
    if not harness.interpreters():
        raise unittest.SkipTest("no supported interpreter")
    return harness.interpreters()[-1].path


class LiveTargets(harness.TargetTest, unittest.TestCase):
    def start_program(self, program, *arguments, before=()):
        target = self.start([*before, python(), "-ESc", program, *arguments])
        os.read(target.process.stdout.fileno(), 1)
        os.set_blocking(target.process.stdout.fileno(), False)
        return target

    def said_since(self, target, most=50, seconds=10):
        """What the target wrote since it was last asked, at least a few letters."""
        said, deadline = b"", time.monotonic() + seconds
        with contextlib.suppress(BlockingIOError):
            while True:
                os.read(target.process.stdout.fileno(), 1 << 16)
        while len(said) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
            with contextlib.suppress(BlockingIOError):
                said += os.read(target.process.stdout.fileno(), 1 << 16)
        return said

    def assert_goes_on(self, target):
        with open("/proc/%d/status" % target.pid) as file:
            self.assertIn("TracerPid:\t0\n", file.read())
        self.assertGreaterEqual(len(self.said_since(target)), 3, "it does not run; its state is " + target.state())

    def assert_refused(self, answer, *words, status=UNREADABLE):
        self.assertEqual(answer.status, status, str(answer))
        self.assertEqual(answer.stdout, "", str(answer))
        self.assertEqual(len(answer.stderr.splitlines()), 2, str(answer))
        for word in words:
            self.assertRegex(answer.stderr, re.compile(word, re.I), str(answer))

    def test_ancestors(self):
        answer = harness.heapcore("types", "--pid", str(os.getpid()))
        self.assert_refused(answer, r"process %d \(.*\) is an ancestor of heapcore" % os.getpid(), "another terminal")
        answer = harness.heapcore("capture", "--pid", "1", "-o", "/dev/null")
        self.assertEqual(answer.status, UNREADABLE, str(answer))

    def test_a_traced_process(self):
        target = self.start_program(COUNTS, "100000")
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.ptrace(PTRACE_SEIZE, target.pid, None, None) != 0:
            harness.skipped("a process that is traced already", os.strerror(ctypes.get_errno()))
            self.skipTest("it may not be traced here")
        try:
            self.assert_refused(harness.heapcore("types", "--pid", str(target.pid)), "is already traced by process %d" % os.getpid(),
                                "only one tracer", "--no-stop")
            answer = harness.heapcore("types", "--pid", str(target.pid), "--no-stop", "--json")
            document = harness.check_contract(answer)
            self.assertIn("live-not-stopped", [w["code"] for w in document["warnings"]])
            self.assertGreater(next(t["count"] for t in document["types"] if t["name"] == "str"), 99000)
            self.assertEqual(document["target"]["pause_seconds"], 0)
        finally:
            libc.ptrace(PTRACE_INTERRUPT, target.pid, None, None)
            os.waitpid(target.pid, 0x40000000)  # __WALL: its stop
            libc.ptrace(PTRACE_DETACH, target.pid, None, None)
        self.assert_goes_on(target)

    def test_a_stopped_process_stays_stopped(self):
        target = self.start_program(COUNTS, "1000")
        os.kill(target.pid, signal.SIGSTOP)
        path = os.path.join(target.directory, "stopped.core.zst")
        for argv in (["types"], ["types", "--no-stop"], ["capture", "-o", path]):
            answer = harness.heapcore(*argv, "--pid", str(target.pid))
            self.assertIn(answer.status, (0, 1), str(answer))
            deadline = time.monotonic() + 10
            while target.state() != "T" and time.monotonic() < deadline:
                time.sleep(0.001)
            self.assertEqual(target.state(), "T")
        os.kill(target.pid, signal.SIGCONT)
        self.assert_goes_on(target)

    def test_a_process_that_forks_all_the_time(self):
        target = self.start_program(FORKS)
        for i in range(15):
            path = os.path.join(target.directory, "%d.core" % i)
            argv = (["malloc", "--json"], ["capture", "-o", path])[i % 2]
            self.assertIn(harness.heapcore(*argv, "--pid", str(target.pid)).status, (0, 1))
        self.assert_goes_on(target)
        self.assertNotIn(b"X", self.said_since(target))

    def test_memory_that_comes_and_goes_while_it_is_read(self):
        target = self.start_program(MAPS)
        path = os.path.join(target.directory, "torn.core")
        for _ in range(4):
            document = harness.check_contract(harness.heapcore("types", "--pid", str(target.pid), "--no-stop", "--json"))
            self.assertEqual([w["code"] for w in document["warnings"]].count("live-not-stopped"), 1)
            answer = harness.heapcore("capture", "--pid", str(target.pid), "--no-stop", "-o", path, "--force")
            self.assertIn(answer.status, (0, 1), str(answer))
            self.assertIn("it was not stopped", answer.stderr)
            harness.check_contract(harness.heapcore("types", path, "--json"))
        self.assert_goes_on(target)

    def test_a_capture_that_is_ended(self):
        """By Ctrl-C it leaves nothing behind; by SIGKILL a part, under another name. The target goes on."""
        target = self.start_program(COUNTS, "1000000")
        for number, left in ((signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGKILL, 1)):
            directory = self.temporary_directory()
            process = subprocess.Popen([harness.binary(), "capture", "--pid", str(target.pid), "-o", directory + "/x.core.zst",
                                        "--buffer", "4M"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while not os.listdir(directory) and process.poll() is None:
                pass
            time.sleep(0.05)
            process.send_signal(number)
            process.wait(timeout=harness.RUN_SECONDS)
            self.assertEqual(process.returncode, -number if left else 128 + number)
            self.assertEqual(["x.core.zst.%d.part" % process.pid in name for name in os.listdir(directory)], [True] * left)
            self.assert_goes_on(target)

    def test_another_namespace(self):
        """Pids and mounts of its own; heapcore looks from outside, and from inside."""
        unshare = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        if not shutil.which("unshare") or subprocess.run([*unshare, "true"], stderr=subprocess.DEVNULL).returncode != 0:
            harness.skipped("a process in namespaces of its own", "unshare may make none here")
            self.skipTest("no namespaces")
        # What is mounted over the interpreter's library there must not matter here.
        outer = self.start([*unshare, python(), "-ESc", COUNTS, "50000"])
        os.read(outer.process.stdout.fileno(), 1)
        os.set_blocking(outer.process.stdout.fileno(), False)
        with open("/proc/%d/task/%d/children" % (outer.pid, outer.pid)) as file:
            inner = int(file.read().split()[0])
        for argv in (["types", "--json"], ["ledger", "--json"]):
            document = harness.check_contract(harness.heapcore(*argv, "--pid", str(inner)))
            self.assertEqual(document["target"]["python"], harness.interpreters()[-1].release.split("rc")[0])
            self.assertEqual(document["target"]["pid"], inner)
        enter = ["nsenter", "--target", str(inner), "--mount", "--pid"]
        if shutil.which("nsenter"):
            seen = subprocess.run([*enter, harness.binary(), "capture", "--pid", "1", "-o", "-"], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=harness.RUN_SECONDS)
            self.assertEqual(seen.returncode, 0, seen.stderr)
            self.assertIn(b"of process 1;", seen.stderr)
            gone = subprocess.run([*enter, harness.binary(), "types", "--pid", str(inner + 100000)], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=harness.RUN_SECONDS, text=True)
            self.assertIn("in a container, its own pids count", gone.stderr)
        self.assertGreaterEqual(len(self.said_since(outer)), 3)

    def test_max_memory(self):
        """However little there is: an answer, or an error that says how far it came; and the target goes on."""
        target = self.start_program(COUNTS, "300000")
        core = os.path.join(target.directory, "max.core")
        packed = core + ".zst"
        for path in (core, packed):
            self.assertEqual(harness.heapcore("capture", "--pid", str(target.pid), "-o", path).status, 0)
        refused = answered = 0
        for megabytes in (1, 4, 16, 40, 64, 90, 128, 200, 2000):
            for argv in (["report", "--pid", str(target.pid)], ["retained", core], ["report", packed]):
                with self.subTest("%d MB, %s" % (megabytes, argv)):
                    answer = harness.heapcore(*argv, "--max-memory", "%dM" % megabytes)
                    if answer.status in (0, 1):
                        answered += 1
                        continue
                    refused += 1
                    self.assert_refused(answer, "memory|thread", "--max-memory|ulimit")
                    self.assertRegex(answer.stderr, r"in the pass \"|copying process|copy of|unpack|no room for|stood still|no thread can be started to read|ran out")
                    if argv[1] == "--pid":
                        self.assert_goes_on(target)
        self.assertGreater(refused, 6)
        self.assertGreater(answered, 2)

    def test_a_capture_takes_little_memory(self):
        target = self.start_program(COUNTS, "1500000")
        with open("/proc/%d/status" % target.pid) as file:
            held = int(re.search(r"VmRSS:\s*(\d+) kB", file.read()).group(1)) // 1024
        self.assertGreater(held, 100)
        path = os.path.join(target.directory, "large.core.zst")
        answer = harness.heapcore("capture", "--pid", str(target.pid), "-o", path, "--max-memory", "60M", "--buffer", "8M")
        self.assertEqual(answer.status, 0, str(answer))
        self.assert_goes_on(target)

    def test_answers_that_cannot_be_written(self):
        target = self.start_program(COUNTS, "1000")
        with open("/dev/full", "w") as full:
            run = subprocess.run([harness.binary(), "types", "--pid", str(target.pid)], stdin=subprocess.DEVNULL, stdout=full,
                                 stderr=subprocess.PIPE, text=True, timeout=harness.RUN_SECONDS)
        self.assertEqual(run.returncode, UNREADABLE)
        self.assertRegex(run.stderr, "(?i)could not be written whole to standard output: no space left")
        self.assert_goes_on(target)

    def watch(self, target, directory, *options):
        return subprocess.Popen([harness.binary(), "watch", "--pid", str(target.pid), "-o", directory, "--interval", "0.02",
                                 *options], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def test_watch(self):
        directory = self.temporary_directory()
        target = self.start_program(GROWS)
        process = self.watch(target, directory, "--rss-above", "25M", "--at-most", "2")
        said = process.communicate(timeout=harness.RUN_SECONDS)[1]
        self.assertEqual(process.returncode, 0, said)
        cores = sorted(os.listdir(directory), key=lambda name: os.stat(os.path.join(directory, name)).st_mtime)
        self.assertEqual(len(cores), 2, said)
        self.assertIn("that was the last of them; 2 cores taken", said)
        sizes = [int(re.search(r"-(\d+)M\.core\.zst$", name).group(1)) for name in cores]
        self.assertGreaterEqual(sizes[0], 25)
        self.assertGreaterEqual(sizes[1], sizes[0] * 1.25 - 1)
        counts = []
        for name in cores:
            self.assertEqual(os.stat(os.path.join(directory, name)).st_mode & 0o777, 0o600)
            document = harness.check_contract(harness.heapcore("types", os.path.join(directory, name), "--json"))
            counts.append(next(t["count"] for t in document["types"] if t["name"] == "bytearray"))
        self.assertLess(counts[0], counts[1])

    def test_watch_until_the_end_and_until_the_disk_is_full(self):
        directory = self.temporary_directory()
        target = self.start_program(GROWS)
        never = self.watch(target, directory, "--rss-above", "100G")
        bound = self.watch(target, directory, "--rss-above", "30M", "--disk", "1M")
        said = bound.communicate(timeout=harness.RUN_SECONDS)[1]
        self.assertEqual(bound.returncode, UNREADABLE, said)
        self.assertIn("would take more than the 1048576 bytes allowed", said)
        self.assertEqual(os.listdir(directory), [])
        said = never.communicate(timeout=harness.RUN_SECONDS)[1]
        self.assertEqual(never.returncode, 0, said)
        self.assertIn("the process has ended; 0 cores taken", said)

    def test_watch_interrupted(self):
        directory = self.temporary_directory()
        target = self.start_program(COUNTS, "1000")
        process = self.watch(target, directory, "--rss-above", "100G")
        self.assertIn("waiting until more than", process.stderr.readline())
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=harness.RUN_SECONDS), 128 + signal.SIGINT)
        process.stderr.close()
        self.assertEqual(os.listdir(directory), [])
        answer = harness.heapcore("watch", "--pid", str(target.pid), "--rss-above", "1M", "-o", os.path.join(directory, "none"))
        self.assert_refused(answer, "none is no folder", "make it first")
        self.assert_goes_on(target)


if __name__ == "__main__":
    harness.main()
