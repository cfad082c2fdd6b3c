"""`capture` against --pid on the same process, which stands still, and against gdb; what it refuses, and what it leaves."""

import os
import re
import resource
import shutil
import subprocess
import unittest

import harness

UNREADABLE = 3
COMMANDS = (["types"], ["malloc"], ["pymalloc"], ["ledger"], ["cycles"], ["threads"])
SECRETS = ("str-secret-91827", "bytes-secret-91827", "bytearray-secret-91827", "freed-secret-91827", "env-secret-91827",
           "w\u0456de-secret-91827")

# Strings are put together at run time, lest they be constants of the code, which is in memory too.
PROGRAM = """
import os, sys, threading, time
class Holder(object):
    kept_attribute = None
tail = "-".join(["secret", "918" + "27"])
def make(word):
    return word + "-" + tail
holder = Holder()
holder.kept_attribute = make("str")
kept = [make("str") + str(i) for i in range(2000)]
raw = make("bytes").encode()
changing = bytearray(make("bytearray").encode())
wide = make(u"w\\u0456de")
wide_utf8 = wide.encode("utf-8")
freed = [make("freed") + str(i) * 3 for i in range(20000)]
freed_large = make("freed") * 30000
del freed, freed_large
cycle = []
cycle.append(cycle)
for i in range(3):
    thread = threading.Thread(target=time.sleep, args=(1000,), name="sleeper-%d" % i)
    thread.daemon = True
    thread.start()
time.sleep(0.2)
os.write(1, b"R")
time.sleep(1000)
"""


def without(document, *keys):
    """What both must say alike: not who was asked, and not what only a live process can tell."""
    document = dict(document)
    for key in ("target", "notes", "warnings", "resident") + keys:
        document.pop(key, None)
    if "total" in document:
        document["total"] = {k: v for k, v in document["total"].items() if k not in ("rss_bytes", "swap_bytes")}
    return document


@harness.for_each_interpreter
class Capture(harness.TargetTest):
    interpreter = None

    @classmethod
    def setUpClass(cls):
        directory = cls.temporary_directory()
        argv = ["env", "TOKEN=env-secret-91827", cls.interpreter.path, "-ESBc", "# coding: utf-8\n" + PROGRAM]
        cls.target = cls.start(argv, directory=directory).wait_ready()
        cls.directory = directory

    def capture(self, name, *options):
        path = os.path.join(self.directory, name)
        answer = harness.heapcore("capture", "--pid", str(self.target.pid), "-o", path, "--force", "--json", *options)
        document = harness.check_contract(answer)
        self.assertEqual(document["capture"]["path"], path)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        return path, document

    def test_same_answers(self):
        for name in ("plain.core", "packed.core.zst"):
            path, document = self.capture(name)
            self.assertEqual(os.stat(path).st_blocks * 512 // 4096 <= document["capture"]["file_bytes"] // 4096 + 1, True)
            for command in COMMANDS:
                with harness.checking(self, "capture: %s, %s" % (name, " ".join(command)), "captures"):
                    live = harness.check_contract(
                        harness.heapcore(*command, "--pid", str(self.target.pid), "--json", "--limit", "0"))
                    core = harness.check_contract(harness.heapcore(*command, path, "--json", "--limit", "0"))
                    self.assertEqual(without(live), without(core))
                    self.assertEqual(live["target"]["python"], core["target"]["python"])
                    self.assertEqual([w["code"] for w in live["warnings"]], [w["code"] for w in core["warnings"]])

    def test_gdb(self):
        if not shutil.which("gdb"):
            harness.skipped("captured cores in gdb", "gdb is not installed")
            self.skipTest("no gdb")
        if self.interpreter.origin != "installed":
            harness.skipped("captured cores of %s in gdb" % self.interpreter, "its libraries lie elsewhere")
            self.skipTest("its libraries lie elsewhere")
        path, document = self.capture("gdb.core")
        run = subprocess.run(["gdb", "-q", "-batch", "-nx", "-ex", "info threads", "-ex", "bt", self.interpreter.path, path],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             timeout=harness.RUN_SECONDS)
        self.assertEqual(len(re.findall(r"^[* ] +\d+ .*LWP \d+", run.stdout, re.M)), document["capture"]["threads"], run.stdout)
        self.assertRegex(run.stdout, r"#\d+ .*(select|sleep|Py)", run.stdout)
        self.assertNotIn("too small", run.stdout)

    def test_without_strings(self):
        whole, _ = self.capture("whole.core")
        blanked, document = self.capture("blanked.core.zst", "--no-strings")
        self.assertIs(document["capture"]["strings"], False)
        plain = os.path.join(self.directory, "blanked.core")
        subprocess.run(["zstd", "-q", "-d", "-f", blanked, "-o", plain], check=True)
        with open(whole, "rb") as file:
            before = file.read()
        with open(plain, "rb") as file:
            after = file.read()
        for secret in SECRETS:
            if secret.isascii() or self.interpreter.version >= (3,):
                for coded in (secret.encode(), secret.encode("utf-16-le")):
                    # Of what was freed a little stays in blocks whose new owner does not use all of them.
                    most = before.count(coded) // 20 if secret.startswith("freed") else 0
                    self.assertLessEqual(after.count(coded), most, secret)
        self.assertIn(SECRETS[0].encode(), before)
        for command in (["types"], ["pymalloc"], ["cycles"], ["ledger"]):
            with self.subTest(command=command):
                full = harness.check_contract(harness.heapcore(*command, whole, "--json", "--limit", "0"))
                left = harness.check_contract(harness.heapcore(*command, blanked, "--json", "--limit", "0"))
                self.assertEqual(without(full), without(left))
        self.assertIn("__main__.kept[...]", harness.heapcore("paths", blanked, "str").stdout)
        frames = [[(frame["function"], frame["file"], frame["line"]) for thread in harness.check_contract(
            harness.heapcore("threads", core, "--json"))["threads"] for frame in thread["frames"]] for core in (whole, blanked)]
        self.assertEqual(frames[0], frames[1])


class CaptureErrors(harness.TargetTest, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = cls.temporary_directory()
        cls.target = cls.start(["sleep", "1000"])
        cls.target.wait_asleep()

    def refused(self, path, *words, options=(), **popen):
        before = sorted(os.listdir(self.directory))
        answer = harness.heapcore("capture", "--pid", str(self.target.pid), "-o", path, *options, **popen)
        self.assertEqual(answer.status, UNREADABLE, str(answer))
        self.assertEqual(answer.stdout, "")
        self.assertEqual(len(answer.stderr.splitlines()), 2, str(answer))
        for word in words:
            self.assertRegex(answer.stderr, re.compile(word, re.I), str(answer))
        self.assertEqual(sorted(os.listdir(self.directory)), before)
        with open("/proc/%d/status" % self.target.pid) as file:
            status = file.read()
        self.assertIn("TracerPid:\t0\n", status)
        self.assertRegex(status, r"State:\tS")

    def test_never_over_a_file(self):
        path = os.path.join(self.directory, "there.core")
        with open(path, "w") as file:
            file.write("precious")
        self.refused(path, "there.core is there already", "--force")
        with open(path) as file:
            self.assertEqual(file.read(), "precious")

    def test_no_such_folder(self):
        self.refused(os.path.join(self.directory, "nowhere", "x.core"), "nowhere/x.core cannot be written", "-o")

    def test_folder_that_may_not_be_written_to(self):
        self.refused("/sys/heapcore.core", "/sys/heapcore.core cannot be written: (permission|read-only|operation)", "-o")

    def test_limit_on_files(self):
        def small_files():
            resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        for name in ("big.core", "big.core.zst"):
            self.refused(os.path.join(self.directory, name), name + " could not be written whole", "ulimit -f",
                         preexec_fn=small_files)

    def test_full_disk(self):
        self.refused("/dev/full", "/dev/full could not be written whole: no space left", "free space")

    def test_closed_pipe(self):
        read, write = os.pipe()
        os.close(read)
        run = subprocess.run([harness.binary(), "capture", "--pid", str(self.target.pid), "-o", "-"], stdout=write,
                             stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=harness.RUN_SECONDS, text=True)
        os.close(write)
        self.assertEqual(run.returncode, UNREADABLE)
        self.assertIn("whoever was reading it has ended", run.stderr)

    def test_strings_of_no_python(self):
        self.refused(os.path.join(self.directory, "x.core"), "no Python was found", options=["--no-strings"])

    def test_through_a_pipe(self):
        run = subprocess.run([harness.binary(), "capture", "--pid", str(self.target.pid), "-o", "-"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=harness.RUN_SECONDS)
        self.assertEqual(run.returncode, 0, run.stderr)
        path = os.path.join(self.temporary_directory(), "piped.core.zst")
        with open(path, "wb") as file:
            file.write(run.stdout)
        document = harness.check_contract(harness.heapcore("ledger", path, "--json"))
        self.assertEqual(document["total"]["mapped_bytes"], self.target.mapped_bytes())


if __name__ == "__main__":
    harness.main()
