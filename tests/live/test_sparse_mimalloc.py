"""A free-threaded process whose peak is over: the report says which survivors keep mimalloc's pages, and how much."""

import json
import os
import unittest

import harness

PROGRAM = r"""
import json, sys, time
class Row:
    __slots__ = ("key", "text")
    def __init__(self, key):
        self.key = key
        self.text = "row %d of the nightly batch" % key
def taken(block):
    return (sys.getsizeof(block) + 15) // 16 * 16
rows = [Row(key) for key in range(1000000, 1500000)]
peak = sum(taken(row) + taken(row.text) + taken(row.key) for row in rows)
# Pages of 64 KiB hold more than six hundred of these: one in two hundred keeps them all.
survivors = rows[::200] if sys.argv[2] == "sparse" else rows[:]
del rows
json.dump({"peak": peak}, open(sys.argv[1], "w"))
sys.stdout.write("r")
sys.stdout.flush()
while True:
    time.sleep(1000)
"""


class SparsePages(harness.TargetTest):
    interpreter = None

    def report(self, how):
        directory = self.temporary_directory()
        program, truth = os.path.join(directory, "program.py"), os.path.join(directory, "truth.json")
        with open(program, "w") as file:
            file.write(PROGRAM)
        target = self.start([self.interpreter.path, "-B", "-S", program, truth, how], 0x33, directory).wait_ready()
        with open(truth) as file:
            known = json.load(file)
        return harness.check_contract(harness.heapcore("report", "--pid", str(target.pid), "--json"))["findings"], known

    def test_survivors_keep_pages(self):
        findings, known = self.report("sparse")
        self.assertEqual((findings[0]["code"], findings[0]["severity"]), ("mimalloc-fragmentation", "high"), findings)
        self.assertLess(abs(findings[0]["bytes"] - known["peak"]), 0.05 * known["peak"], (findings[0]["bytes"], known))
        self.assertIn("__main__.Row", "\n".join(findings[0]["evidence"]))
        self.assertIn("Recycling", findings[0]["advice"])

    def test_what_is_live_is_not_sparse(self):
        findings, _ = self.report("whole")
        self.assertNotIn("mimalloc-fragmentation", [finding["code"] for finding in findings])


harness.make_test_classes(SparsePages, [i for i in harness.interpreters() if i.free_threaded])

if __name__ == "__main__":
    harness.main()
