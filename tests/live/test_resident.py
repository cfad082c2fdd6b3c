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

    def test_a_core_does_not_tell(self):
        core = os.path.join(os.path.dirname(harness.PROGRAMS), "leaky_worker.core.zst")
        document = harness.check_contract(harness.heapcore("ledger", core, "--json"))
        self.assertNotIn("resident", document)


if __name__ == "__main__":
    harness.main()
