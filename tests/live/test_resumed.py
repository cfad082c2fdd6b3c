"""A live target always goes on, whatever happens to heapcore."""

import os
import signal
import subprocess
import time
import unittest

import harness

# Counts, so that it can be seen to run; holds enough memory that heapcore is still copying when it is killed.
PROGRAM = """
import os, sys
ballast = [bytearray(1000) for _ in range(200000)]
os.write(1, b"R")
while True:
    os.write(1, b".")
    for _ in range(10000): pass
"""


class Resumed(harness.TargetTest, unittest.TestCase):
    def setUp(self):
        if not harness.interpreters():
            self.skipTest("no supported interpreter")
        self.target = self.start([harness.interpreters()[0].path, "-ESc", PROGRAM])
        os.read(self.target.process.stdout.fileno(), 1)
        os.set_blocking(self.target.process.stdout.fileno(), False)

    def drain(self):
        total = 0
        try:
            while True:
                total += len(os.read(self.target.process.stdout.fileno(), 1 << 16))
        except BlockingIOError:
            return total

    def assert_running(self):
        deadline = time.monotonic() + 10
        with open("/proc/%d/status" % self.target.pid) as file:
            self.assertIn("TracerPid:\t0\n", file.read())
        self.drain()
        while time.monotonic() < deadline:
            time.sleep(0.01)
            if self.drain() > 3:
                return
        self.fail("the target does not run; its state is " + self.target.state())

    def test_after_an_answer(self):
        answer = harness.heapcore("types", "--pid", str(self.target.pid), "--json")
        harness.check_contract(answer)
        self.assert_running()

    def test_killed_in_the_middle(self):
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            for milliseconds in (1, 3, 10, 30, 100, 200):
                with self.subTest("signal %d after %d ms" % (number, milliseconds)):
                    argv = [harness.binary(), "types", "--pid", str(self.target.pid)]
                    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                               stderr=subprocess.DEVNULL)
                    time.sleep(milliseconds / 1000)
                    process.send_signal(number)
                    process.wait(timeout=harness.RUN_SECONDS)
                    self.assert_running()


if __name__ == "__main__":
    harness.main()
