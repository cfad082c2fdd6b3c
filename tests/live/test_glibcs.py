"""malloc_shapes.c under the glibc of five Debian suites, against what malloc itself says, exactly.

Each heap is looked at in the live process and in its cores; each core in three ways: with libc's debug file, without it, and
without any libc file. Suites that cannot be reached are SKIPPED; test_malloc_cores.py has a small core of every one.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import unittest

import glibcs
import harness
import malloc_truth

MODES = ("single", "small", "aligned", "mmapped", "heaps", "tcache", "mixed")
TRIM_MODES = ("peak", "holes", "threads")  # all free below top; every other page free; thread arenas
SPARSE_MODES = ("heaps",)  # gcore would write what was never touched
MREMAPS = {"mmapped": 10}  # reallocs that mode makes of mmapped chunks
SAME_EVERYWHERE = ("arenas", "mmapped", "total", "trim", "arena_max")


def release(version):
    return tuple(int(part) for part in version.split("."))


def without_threads(document):
    """What a core without its threads' memory tells as well."""
    arenas = [{k: v for k, v in arena.items() if k != "threads"} for arena in document["arenas"]]
    return [arenas] + [document[key] for key in SAME_EVERYWHERE if key != "arenas"]


class Glibcs(harness.TargetTest):
    @classmethod
    def setUpClass(cls):
        if shutil.which("cc") is None:
            harness.skipped("glibc of " + cls.suite, "there is no C compiler")
            raise unittest.SkipTest("no C compiler")
        fetched = glibcs.fetch(cls.suite)
        if isinstance(fetched, str):
            harness.skipped("glibc of " + cls.suite, fetched)
            raise unittest.SkipTest(fetched)
        cls.glibc = fetched
        print("glibc %s of %s" % (fetched.version, cls.suite), file=sys.stderr)
        folder = cls.temporary_directory()
        cls.program = os.path.join(folder, "malloc_shapes")
        cls.glibc.build(os.path.join(harness.PROGRAMS, "malloc_shapes.c"), cls.program, "-DMALLOC_SHAPES_THREADS=2")
        cls.sysroots = {way: cls.make_sysroot(os.path.join(folder, way), way)
                        for way in ("debug file", "no debug file", "no libc file")}

    @classmethod
    def make_sysroot(cls, sysroot, way):
        """As a user would have it for the core of another machine: its files below one folder."""
        os.makedirs(sysroot)
        links = {"debug file": (cls.glibc.folder, cls.glibc.debug_root), "no debug file": (cls.glibc.folder,)}.get(way, ())
        for target in links:
            place = "/usr/lib/debug" if target == cls.glibc.debug_root else target
            os.makedirs(os.path.dirname(sysroot + place), exist_ok=True)
            os.symlink(target, sysroot + place)
        return sysroot

    def run_shape(self, mode, core_filter=0x33):
        directory = self.temporary_directory()
        argv = self.glibc.argv(self.program, mode, os.path.join(directory, "output"))
        return self.start(argv, core_filter, directory).wait_ready()

    def look(self, mode):
        """What the process said, and heapcore's answers by the way it was looked at."""
        target = self.run_shape(mode)
        answers = {("live", ""): harness.heapcore("malloc", "--pid", str(target.pid), "--json")}
        cores = {}
        if not harness.why_no_gcore() and mode not in SPARSE_MODES:
            cores["gcore"] = target.gcore()
        if not harness.why_no_kernel_core():
            cores["kernel core"] = target.kernel_core()
        for kind, core in cores.items():
            for way, sysroot in self.sysroots.items():
                answers[kind, way] = harness.heapcore("malloc", core, "--sysroot", sysroot, "--json")
        target.stop()
        info, malloc_info = malloc_truth.parse_output(os.path.join(target.directory, "output"))
        shutil.rmtree(target.directory)  # its cores are large
        if release(self.glibc.version) >= (2, 43):
            # Since then every mremap adds 16 to malloc's own count that no munmap takes away.
            count, total = malloc_info["mmapped"]
            drift = 16 * MREMAPS.get(mode, 0)
            malloc_info["mmapped"] = (count, total - drift)
            info["hblkhd"] -= drift
        return info, malloc_info, answers

    def check(self, mode):
        info, malloc_info, answers = self.look(mode)
        live = harness.check_contract(answers["live", ""])
        for (kind, way), answer in answers.items():
            with self.subTest("%s %s" % (kind, way)):
                document = harness.check_contract(answer)
                errors = harness.malloc_differences(malloc_info, document)
                errors += malloc_truth.mallinfo_differences(info, document)
                codes = [w["code"] for w in document["warnings"]]
                lost = "thread-memory-missing" in codes
                if mode == "tcache":
                    errors += malloc_truth.tcache_differences(info, document, not lost)
                self.assertEqual(errors, [], "\n  ".join([""] + errors))
                # Nothing is missing but what gcore did not write, and that is said.
                self.assertEqual(set(codes) - {"thread-memory-missing"}, set())
                if lost:
                    self.assertEqual(kind, "gcore")
                    self.assertGreaterEqual(release(self.glibc.version), (2, 42))
                    self.assertTrue(all(arena["threads"] is None for arena in document["arenas"]))
                else:
                    self.assertEqual(document["arenas"], live["arenas"])
                    self.assertEqual(sum(len(arena["threads"]) for arena in document["arenas"]), document["target"]["threads"])
                self.assertEqual(without_threads(document), without_threads(live))
                self.check_provenance(way, document)

    def check_provenance(self, way, document):
        # Without libc's file its version is not known; the shapes of the structures are.
        oldest, _, newest = document["layout"].partition(" to ")
        self.assertTrue(release(oldest) <= release(self.glibc.version) <= release(newest or oldest), document["layout"])
        self.assertIn("structure", document["located_by"])
        if way in ("debug file", "no debug file"):
            self.assertEqual(document["layout"], self.glibc.version)
            for method in ("relocation", "code"):
                self.assertIn(method, document["located_by"])
        if way == "debug file":
            self.assertTrue(document["located_by"].startswith("symbol"), document["located_by"])
            self.assertTrue(document["layout_source"].startswith("DWARF of build-id "), document["layout_source"])
        elif not self.debug_file_installed():
            self.assertEqual(document["layout_source"], "table")
            self.assertNotIn("symbol", document["located_by"])

    def debug_file_installed(self):
        """Of this very build, on this machine."""
        notes = subprocess.run(["readelf", "-n", self.glibc.libc], stdout=subprocess.PIPE, text=True).stdout
        build_id = notes.partition("Build ID: ")[2].split()[0]
        return os.path.exists("/usr/lib/debug/.build-id/%s/%s.debug" % (build_id[:2], build_id[2:]))

    def test_trim_forecast(self):
        for mode in TRIM_MODES:
            with self.subTest(mode):
                target = self.run_shape(mode)
                document = harness.check_contract(harness.heapcore("malloc", "--pid", str(target.pid), "--json"))
                forecast = document["trim"]["releasable_bytes"]
                said = os.path.join(target.directory, "output.trim")
                os.kill(target.pid, signal.SIGUSR1)
                deadline = time.monotonic() + harness.RUN_SECONDS
                resident = {}
                while time.monotonic() < deadline and len(resident) < 2:
                    time.sleep(0.02)
                    if os.path.exists(said):
                        with open(said) as file:
                            resident = dict(line.split() for line in file)
                target.stop()
                drop = int(resident["before"]) - int(resident["after"])
                print("%s, %s: forecast %d, drop %d" % (self.glibc.version, mode, forecast, drop), file=sys.stderr)
                self.assertLessEqual(abs(drop - forecast), max(drop // 100, 64 << 10), "%d against %d" % (forecast, drop))


for name in MODES:
    setattr(Glibcs, "test_" + name, lambda self, mode=name: self.check(mode))
for suite_name in glibcs.SUITES:
    class_name = "Glibc_" + suite_name
    globals()[class_name] = type(class_name, (Glibcs, unittest.TestCase), {"suite": suite_name, "__module__": __name__})


if __name__ == "__main__":
    harness.main()
