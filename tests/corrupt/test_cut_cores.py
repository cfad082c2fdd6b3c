"""Cores that were cut short (a full disk, a limit): every command's first steps must end, and say what they can."""

import glob
import lzma
import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "live"))
import harness  # noqa: E402

FOLDER = os.path.join(harness.ROOT, "testdata", "pythons")
PARTS = (0.0001, 0.01, 0.03, 0.1, 0.3, 0.6, 0.95)
SECONDS = 30  # the whole core takes 0.1 s


class CutCores(unittest.TestCase):
    def test_each_ends(self):
        cores = sorted(glob.glob(os.path.join(FOLDER, "*.core.xz")))
        self.assertTrue(cores)
        with tempfile.TemporaryDirectory(prefix="heapcore-cut-") as folder:
            cut, nothing = os.path.join(folder, "cut.core"), os.path.join(folder, "nothing")
            os.mkdir(nothing)
            for core in cores:
                with lzma.open(core) as file:
                    contents = file.read()
                for part in PARTS:
                    with self.subTest(os.path.basename(core), part=part):
                        with open(cut, "wb") as file:
                            file.write(contents[:int(len(contents) * part)])
                        run = subprocess.run([harness.binary(), "types", cut, "--sysroot", nothing],
                                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                             timeout=SECONDS, text=True)
                        self.assertIn(run.returncode, (1, 3), run.stderr)
                        self.assertTrue(run.stderr)


if __name__ == "__main__":
    harness.main()
