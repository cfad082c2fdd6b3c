"""Heaps of a C program, made to have every kind of chunk, against malloc_info() and mallinfo2() of the same moment."""

import os
import shutil
import subprocess
import unittest

import harness
import malloc_truth

MODES = ("single", "small", "mmapped", "peak", "holes", "threads", "split")
THREADS = 2
TCACHE_COUNT = 7      # chunks that a tcache keeps of one size, until glibc 2.43
FOREIGN_BYTES = {"split": 4 * 3 * 4096}  # four times two pages, and what aligns the break again
SMALL_MODE_SIZES = 9  # different sizes that mode "small" frees many of


class MallocShapes(harness.TargetTest, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        compiler = shutil.which("cc")
        if compiler is None:
            harness.skipped("malloc shapes", "there is no C compiler")
            raise unittest.SkipTest("no C compiler")
        cls.program = os.path.join(cls.temporary_directory(), "malloc_shapes")
        # At -O0: an optimiser drops a malloc() whose result is only freed, and the sorting that it was there for.
        subprocess.run([compiler, "-O0", "-pthread", "-DMALLOC_SHAPES_THREADS=%d" % THREADS, "-o", cls.program,
                        os.path.join(harness.PROGRAMS, "malloc_shapes.c")], check=True)
        for label, why_not in (("gcore", harness.why_no_gcore()), ("kernel core", harness.why_no_kernel_core())):
            if why_not:
                harness.skipped("malloc shapes, " + label, why_not)

    def look(self, mode):
        """What the process said, and heapcore's answers by the way it was looked at."""
        directory = self.temporary_directory()
        output = os.path.join(directory, "output")
        target = self.start([self.program, mode, output], 0x33, directory).wait_ready()
        answers = {"live": harness.heapcore("malloc", "--pid", str(target.pid), "--json")}
        if not harness.why_no_gcore():
            answers["gcore"] = harness.heapcore("malloc", target.gcore(), "--json")
        if not harness.why_no_kernel_core():
            answers["kernel core"] = harness.heapcore("malloc", target.kernel_core(), "--json")
        target.stop()
        info, malloc_info = malloc_truth.parse_output(output)
        shutil.rmtree(directory)  # its cores are large
        return info, malloc_info, answers

    def check(self, mode):
        info, malloc_info, answers = self.look(mode)
        for label, answer in answers.items():
            with self.subTest(label):
                document = harness.check_contract(answer)
                errors = harness.malloc_differences(malloc_info, document, FOREIGN_BYTES.get(mode, 0))
                errors += malloc_truth.mallinfo_differences(info, document)
                self.assertEqual(errors, [], "\n  ".join([""] + errors))
                if mode == "small":
                    tcache = document["arenas"][0]["free"]["tcache"]["count"]
                    self.assertGreaterEqual(tcache, SMALL_MODE_SIZES * TCACHE_COUNT)
                    self.assertLess(tcache, SMALL_MODE_SIZES * TCACHE_COUNT + 20)
                live = harness.check_contract(answers["live"])
                for key in ("arenas", "mmapped", "total", "trim"):
                    self.assertEqual(document[key], live[key], key)


for name in MODES:
    setattr(MallocShapes, "test_" + name, lambda self, mode=name: self.check(mode))


if __name__ == "__main__":
    harness.main()
