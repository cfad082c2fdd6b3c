"""What `ledger` says is resident, against the kernel's own count of the process."""

import os
import re
import unittest

import harness

PROGRAM = os.path.join(harness.PROGRAMS, "stories", "high_water.py")
NEAR = 0.01


@harness.for_each_interpreter
class Resident(harness.TargetTest):
    interpreter = None

    def test_resident_bytes(self):
        if self.interpreter.version < (3,):
            harness.skipped("resident memory of %s" % self.interpreter, "the program is written for Python 3")
            raise unittest.SkipTest("the program is written for Python 3")
        target = self.start([self.interpreter.path, "-B", PROGRAM, "never-told"]).wait_ready()
        if tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 7):  # a kernel that tells the shared page of zeros apart
            self.read_all(target.pid)
        document = harness.check_contract(harness.heapcore("ledger", "--pid", str(target.pid), "--json"))
        with open("/proc/%d/status" % target.pid) as file:
            status = file.read()
        rss, swap = (int(re.search(name + r":\s*(\d+) kB", status).group(1)) * 1024 for name in ("VmRSS", "VmSwap"))
        rows = document["resident"]
        self.assertLessEqual(abs(sum(row["resident_bytes"] for row in rows) - rss), NEAR * rss)
        self.assertLessEqual(abs(sum(row["swapped_bytes"] for row in rows) - swap), NEAR * rss)
        self.assertLessEqual(abs(document["total"]["rss_bytes"] - rss), NEAR * rss)
        self.assertEqual(sum(row["mapped_bytes"] for row in rows), document["total"]["mapped_bytes"])
        for row in rows:
            self.assertLessEqual(row["resident_bytes"] + row["swapped_bytes"], row["mapped_bytes"], row)

    def read_all(self, pid):
        """As gcore does. What was only reserved is then mapped, and still takes no memory."""
        with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", 0) as memory:
            for line in maps:
                start, end = [int(text, 16) for text in line.split()[0].split("-")]
                if "rw-p" in line and len(line.split()) == 5 and end - start < 1 << 28:
                    memory.seek(start)
                    memory.read(end - start)

    def test_a_core_does_not_tell(self):
        core = os.path.join(os.path.dirname(harness.PROGRAMS), "leaky_worker.core.zst")
        document = harness.check_contract(harness.heapcore("ledger", core, "--json"))
        self.assertNotIn("resident", document)


if __name__ == "__main__":
    harness.main()
