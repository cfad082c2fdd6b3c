"""A server under load, looked at again and again, heapcore killed in the middle of a third of the looks: it never dies,
never stays stopped, answers each of its requests, and its memory is its own.

HEAPCORE_SNAPSHOTS says how many looks; there are 30 without it, or as many as half a minute allows. The table in
docs/reliability.md is what it prints with 200.
"""

import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
import unittest

import harness

LOOKS = int(os.environ.get("HEAPCORE_SNAPSHOTS") or 0)
SECONDS = 25
ALLOCATIONS_A_SECOND = 100000
NAMES = ("allocations", "sent", "answered", "wrong", "changed", "longest_us")


class Torture(harness.TargetTest, unittest.TestCase):
    def test_torture(self):
        compiler = shutil.which("cc") or shutil.which("gcc")
        if not compiler:
            harness.skipped("the server under load", "there is no C compiler")
            self.skipTest("no C compiler")
        folder = self.temporary_directory()
        program = os.path.join(folder, "busy_server")
        subprocess.run([compiler, "-O1", "-pthread", "-o", program, os.path.join(harness.PROGRAMS, "busy_server.c")],
                       check=True)
        self.told_path = os.path.join(folder, "told")
        self.target = self.start([program, self.told_path], directory=folder)
        os.read(self.target.process.stdout.fileno(), 1)
        rate = self.rate()
        self.assertGreater(rate, ALLOCATIONS_A_SECOND)
        random.seed(7)
        pauses, killed, started = [], 0, time.monotonic()
        for look in range(LOOKS or 30):
            if not LOOKS and time.monotonic() - started > SECONDS:
                break
            if look % 3 == 2:
                killed += self.kill_in_the_middle()
            else:
                pauses.append(self.look((["malloc"], ["ledger"], ["capture", "--force", "-o", folder + "/torture.core.zst"])[len(pauses) % 3]))
            self.check_running()
        told = self.told()
        self.assertEqual((told["wrong"], told["changed"]), (0, 0))
        self.assertLessEqual(told["sent"] - told["answered"], 1)
        self.assertGreater(killed, 0)
        self.report(pauses, killed, rate, told)

    def told(self):
        with open(self.told_path, "rb") as file:
            return dict(zip(NAMES, struct.unpack("6Q", file.read(48))))

    def rate(self):
        before, start = self.told()["allocations"], time.monotonic()
        time.sleep(1)
        return (self.told()["allocations"] - before) / (time.monotonic() - start)

    def look(self, command):
        answer = harness.heapcore(*command, "--pid", str(self.target.pid), "--json")
        self.assertIn(answer.status, (0, 1), str(answer))
        return answer.document["target"]["pause_seconds"]

    def kill_in_the_middle(self):
        process = subprocess.Popen([harness.binary(), "ledger", "--pid", str(self.target.pid)], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 5
        # Half of them as soon as it can be seen to trace, the others at any time.
        if random.random() < 0.5:
            while self.tracer() == 0 and process.poll() is None and time.monotonic() < deadline:
                pass
        else:
            time.sleep(random.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        return process.wait(timeout=harness.RUN_SECONDS) == -signal.SIGKILL

    def tracer(self):
        with open("/proc/%d/status" % self.target.pid) as file:
            return int(file.read().split("TracerPid:")[1].split()[0])

    def check_running(self):
        """Nobody traces it, and both the threads and the server go on."""
        self.assertIsNone(self.target.process.poll(), "the target has ended")
        before, deadline = self.told(), time.monotonic() + 10
        self.assertEqual(self.tracer(), 0)
        while time.monotonic() < deadline:
            now = self.told()
            if now["allocations"] > before["allocations"] and now["answered"] > before["answered"]:
                return
            time.sleep(0.001)
        self.fail("the target does not go on: %s, %s, state %s" % (before, self.told(), self.target.state()))

    def report(self, pauses, killed, rate, told):
        pauses = sorted(pause * 1000 for pause in pauses)
        at = lambda share: pauses[min(len(pauses) - 1, int(share * len(pauses)))]
        print("%d looks answered, %d killed in the middle; %d allocations a second; %d requests, all answered, the longest "
              "wait %.1f ms\npauses in ms: least %.1f, median %.1f, 90 %% %.1f, 99 %% %.1f, longest %.1f"
              % (len(pauses), killed, rate, told["answered"], told["longest_us"] / 1000, pauses[0], at(0.5), at(0.9),
                 at(0.99), pauses[-1]), file=sys.stderr)


if __name__ == "__main__":
    harness.main()
