"""Programs that are linked, started or caught in other ways than most, and programs whose malloc is not glibc's."""

import glob
import os
import shutil
import subprocess
import unittest

import harness
import malloc_truth

REPLACEMENTS = {"jemalloc": "libjemalloc.so.2", "tcmalloc": "libtcmalloc_minimal.so.4", "mimalloc": "libmimalloc.so.2*"}

PLAIN = r"""
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void *use(void *unused) {
  for (int i = 0; i < 20000; ++i) memset(malloc(100 + i % 900), 1, 100);
  return unused;
}
int main(int argc, char **argv) {
  pthread_t thread;
  (void)argv;
  if (argc > 1) {
    use(NULL);
    pthread_create(&thread, NULL, use, NULL);
    pthread_join(thread, NULL);
  }
  if (write(1, "ready\n", 6) != 6) return 1;
  for (;;) pause();
}
"""

NEVER = r"""
__attribute__((noreturn)) void _start(void) {
  long n = 1, written;
  __asm__ volatile("syscall" : "=a"(written) : "a"(n), "D"(1), "S"("ready\n"), "d"(6) : "rcx", "r11", "memory");
  for (;;) __asm__ volatile("syscall" : "=a"(written) : "a"(34) : "rcx", "r11", "memory");
}
"""


class Kinds(harness.TargetTest, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if shutil.which("cc") is None:
            harness.skipped("other kinds of programs", "there is no C compiler")
            raise unittest.SkipTest("no C compiler")
        cls.folder = cls.temporary_directory()

    def build(self, name, source, *options, compiler="cc"):
        program = os.path.join(self.folder, name)
        if not os.path.exists(source):
            path = program + ".c"
            with open(path, "w") as file:
                file.write(source)
            source = path
        subprocess.run([compiler, "-O0", "-w", "-pthread", "-o", program, source, *options], check=True)
        return program

    def answers(self, argv, *command, env=None):
        """heapcore's documents by the way it looked."""
        directory = self.temporary_directory()
        target = harness.Target(argv, directory, 0x33, env)
        self.addCleanup(target.stop)
        target.wait_ready()
        answers = {"live": harness.heapcore(*command, "--pid", str(target.pid), "--json")}
        if not harness.why_no_gcore():
            answers["gcore"] = harness.heapcore(*command, target.gcore(), "--json")
        if not harness.why_no_kernel_core():
            answers["kernel core"] = harness.heapcore(*command, target.kernel_core(), "--json")
        return {kind: harness.check_contract(answer) for kind, answer in answers.items()}

    def check_shape(self, *options, mode="single"):
        program = self.build("shapes" + "".join(options), os.path.join(harness.PROGRAMS, "malloc_shapes.c"), *options)
        output = os.path.join(self.folder, "output")
        for kind, document in self.answers([program, mode, output], "malloc").items():
            with self.subTest(kind):
                info, malloc_info = malloc_truth.parse_output(output)
                errors = harness.malloc_differences(malloc_info, document)
                errors += malloc_truth.mallinfo_differences(info, document)
                if mode == "tcache":
                    errors += malloc_truth.tcache_differences(info, document)
                self.assertEqual(errors, [], "\n  ".join([""] + errors))
                self.assertEqual(document["warnings"], [])

    def test_static(self):
        self.check_shape("-static")

    def test_static_stripped(self):
        self.check_shape("-static", "-s", mode="mixed")

    def test_static_pie(self):
        self.check_shape("-static-pie", mode="tcache")

    def test_not_pie(self):
        self.check_shape("-no-pie", mode="tcache")

    def test_never_called_malloc(self):
        for kind, document in self.answers([self.build("plain", PLAIN)], "malloc").items():
            with self.subTest(kind):
                self.assertEqual([a["system_bytes"] for a in document["arenas"]], [0])
                self.assertEqual(document["mmapped"], {"count": 0, "bytes": 0})
                self.assertEqual(document["warnings"], [])

    def test_no_libc_at_all(self):
        program = self.build("never", NEVER, "-static", "-nostdlib", "-ffreestanding")
        for kind, document in self.answers([program], "malloc").items():
            with self.subTest(kind):
                self.assertIsNone(document["located_by"])
                self.assertTrue(document["why_not"])

    def test_caught_inside_malloc(self):
        """Four threads that never stop calling it: it ends, and every byte of an arena is accounted for once."""
        program = self.build("shapes", os.path.join(harness.PROGRAMS, "malloc_shapes.c"))
        output = os.path.join(self.folder, "output")
        for _ in range(3):
            target = harness.Target([program, "busy", output], self.temporary_directory())
            self.addCleanup(target.stop)
            if target.process.stdout.read(1) != b"r":
                self.fail("the target did not get ready")
            document = harness.check_contract(harness.heapcore("malloc", "--pid", str(target.pid), "--json"))
            target.stop()
            self.assertEqual(len(document["arenas"]), 5)
            said = {w["code"] for w in document["warnings"]}
            for arena in document["arenas"]:
                accounted = (arena["in_use"]["bytes"] + sum(kind["bytes"] for kind in arena["free"].values()) +
                             arena["top_bytes"] + arena["overhead_bytes"] + arena["lost_bytes"])
                if accounted != arena["system_bytes"]:
                    self.assertTrue(said & {"arena-size-mismatch", "top-out-of-heap"}, (arena, said))

    def replaced(self, name, env=None, argv=None):
        argv = argv or [self.build("plain", PLAIN), "use"]
        documents = self.answers(argv, "malloc", env=env)
        for kind, document in documents.items():
            with self.subTest("%s, %s" % (name, kind)):
                if document["located_by"] is None:
                    self.assertIn(name, document["why_not"])
                    self.assertEqual(document["arenas"], [])
                else:
                    # glibc's own was used before the other took over, or by the dynamic linker: never what the program has.
                    self.assertLess(sum(a["in_use"]["bytes"] for a in document["arenas"]), 1 << 20)
        for kind, document in self.answers(argv, "report", env=env).items():
            with self.subTest("%s, %s" % (name, kind)):
                self.assertEqual(document["ledger"]["total"]["mapped_bytes"], document["target"]["mapped_bytes"])

    def test_replacements(self):
        for name, library in REPLACEMENTS.items():
            found = glob.glob("/usr/lib/*/" + library)
            if not found:
                harness.skipped(name, library + " is not installed")
                continue
            self.replaced(name, env={"LD_PRELOAD": found[0], "PATH": "/usr/bin:/bin"})

    def test_musl(self):
        if shutil.which("musl-gcc") is None:
            harness.skipped("musl", "musl-gcc is not installed")
            self.skipTest("no musl")
        program = self.build("musl", PLAIN, compiler="musl-gcc")
        self.replaced("musl", argv=[program, "use"])

    def test_musl_static(self):
        if shutil.which("musl-gcc") is None:
            self.skipTest("no musl")  # test_musl says so
        program = self.build("musl_static", PLAIN, "-static", compiler="musl-gcc")
        for kind, document in self.answers([program, "use"], "malloc").items():
            with self.subTest(kind):
                self.assertIsNone(document["located_by"])
                self.assertEqual(document["arenas"], [])


if __name__ == "__main__":
    harness.main()
