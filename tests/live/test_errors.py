"""Everything that can be wrong with a target or a command line: one clear sentence, one hint, the right exit status."""

import contextlib
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import unittest

import harness

USAGE, UNREADABLE = 2, 3
EM_AARCH64 = 183
NOBODY = 65534


class Errors(harness.TargetTest, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = cls.temporary_directory()
        cls.sleeper = cls.start(["sleep", "1000"])
        cls.sleeper.wait_asleep()
        cls.core = None
        if harness.why_no_gcore():
            harness.skipped("damaged copies of a core", harness.why_no_gcore())
        else:
            cls.core = cls.sleeper.gcore()

    def path(self, name, content):
        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def patched_core(self, name, offset, replacement):
        if self.core is None:
            self.skipTest("no gcore")
        with open(self.core, "rb") as file:
            content = bytearray(file.read())
        content[offset:offset + len(replacement)] = replacement
        return self.path(name, content)

    def assert_refused(self, answer, status, *words):
        """Status as it must be; standard error short, in sentences, with each of `words`; standard output empty."""
        self.assertEqual(answer.status, status, str(answer))
        self.assertEqual(answer.stdout, "", str(answer))
        lines = [line for line in answer.stderr.splitlines() if line.strip()]
        self.assertTrue(1 <= len(lines) <= 4, str(answer))
        self.assertLess(len(answer.stderr), 800, str(answer))
        self.assertNotRegex(answer.stderr, r"terminate called|Assertion|Segmentation|runtime error|AddressSanitizer")
        for word in words:
            self.assertRegex(answer.stderr, re.compile(word, re.I), str(answer))

    def test_missing_file(self):
        path = os.path.join(self.directory, "not-there")
        self.assert_refused(harness.heapcore("types", path), UNREADABLE, re.escape(path),
                            "no (such )?file|does not exist|not found")

    def test_default_command_too(self):
        path = os.path.join(self.directory, "not-there.core")
        self.assert_refused(harness.heapcore(path), UNREADABLE, "not-there.core")

    def test_empty_file(self):
        self.assert_refused(harness.heapcore("types", self.path("empty", b"")), UNREADABLE, "empty")

    def test_text_file(self):
        path = self.path("notes.txt", b"this is no core\n" * 100)
        self.assert_refused(harness.heapcore("types", path), UNREADABLE, "notes.txt", "not .*(core|ELF)")

    def test_directory(self):
        self.assert_refused(harness.heapcore("types", self.directory), UNREADABLE, "directory")

    def test_executable(self):
        self.assert_refused(harness.heapcore("types", os.path.realpath(sys.executable)), UNREADABLE,
                            "executable|program|shared", "core")

    def test_aarch64_core(self):
        path = self.patched_core("aarch64", 18, struct.pack("<H", EM_AARCH64))
        self.assert_refused(harness.heapcore("types", path), UNREADABLE, "aarch64")

    def test_32_bit_core(self):
        path = self.patched_core("elf32", 4, b"\x01")
        self.assert_refused(harness.heapcore("types", path), UNREADABLE, "32.bit")

    def test_big_endian_core(self):
        path = self.patched_core("big-endian", 5, b"\x02")
        self.assert_refused(harness.heapcore("types", path), UNREADABLE, "big.endian|byte order")

    def test_truncated_core(self):
        if self.core is None:
            self.skipTest("no gcore")
        with open(self.core, "rb") as file:
            content = file.read()
        path = self.path("cut", content[:len(content) * 6 // 10])
        for command in ("malloc", "ledger"):
            with self.subTest(command):
                answer = harness.heapcore(command, path, "--json")
                document = harness.check_contract(answer)
                self.assertEqual(answer.status, 1, str(answer))
                said = " ".join(w["code"] + " " + w["message"] for w in document["warnings"])
                self.assertRegex(said, "(?i)truncat|cut|incomplete")
                if command == "ledger":
                    self.assertEqual(document["total"]["mapped_bytes"], harness.elf.core_mapped_bytes(path))

    def test_core_cut_inside_its_headers(self):
        if self.core is None:
            self.skipTest("no gcore")
        with open(self.core, "rb") as file:
            start = file.read(64 + 56 * 3 + 20)
        for size in (1, 15, 63, 64, len(start)):
            with self.subTest(size):
                answer = harness.heapcore("types", self.path("stub-%d" % size, start[:size]))
                self.assertIn(answer.status, (1, UNREADABLE), str(answer))
                self.assertNotEqual(answer.stderr, "")

    def test_dead_pid(self):
        process = subprocess.Popen(["true"])
        process.wait()
        self.assert_refused(harness.heapcore("types", "--pid", str(process.pid)), UNREADABLE, str(process.pid),
                            "no .*process|not running|does not exist|no such")

    def test_foreign_pid(self):
        if os.geteuid() != 0:
            pid = foreign_pid()
            if pid is None:
                harness.skipped("another user's process", "there is none to be seen")
                self.skipTest("no process of another user")
            answer = harness.heapcore("types", "--pid", str(pid))
        else:
            copy = os.path.join(self.directory, "heapcore")
            shutil.copy(harness.binary(), copy)
            os.chmod(copy, 0o755)
            os.chmod(self.directory, stat.S_IRWXU | stat.S_IXGRP | stat.S_IXOTH)
            answer = harness.heapcore("types", "--pid", str(self.sleeper.pid), binary_path=copy,
                                      preexec_fn=become_nobody)
        self.assert_refused(answer, UNREADABLE, "permi|allowed|denied", "ptrace|CAP_SYS_PTRACE|root|sudo")

    def test_nonsense_for_a_pid(self):
        for pid in ("0", "-1", "abc", "99999999999999999999"):
            with self.subTest(pid):
                self.assert_refused(harness.heapcore("types", "--pid=" + pid), USAGE)

    def test_mistyped_command(self):
        self.assert_refused(harness.heapcore("typs", "core"), USAGE, "typs", "types")

    def test_mistyped_command_with_existing_core(self):
        if self.core is None:
            self.skipTest("no gcore")
        self.assert_refused(harness.heapcore("pymaloc", self.core), USAGE, "pymalloc")

    def test_mistyped_option(self):
        self.assert_refused(harness.heapcore("types", self.directory, "--trakced"), USAGE, "--trakced", "--tracked")
        self.assert_refused(harness.heapcore("types", self.directory, "--jsn"), USAGE, "--json")

    def test_no_target(self):
        self.assert_refused(harness.heapcore("types"), USAGE)
        answer = harness.heapcore()
        self.assertEqual(answer.status, USAGE, str(answer))

    def test_version_names_libraries(self):
        answer = harness.heapcore("--version")
        self.assertEqual(answer.status, 0, str(answer))
        self.assertRegex(answer.stdout, r"heapcore \d+\.\d+\.\d+")
        for library in ("elfutils|libelf|libdw", "capstone", "libarchive", "fmt", "TBB"):
            self.assertRegex(answer.stdout, re.compile("(%s)\\D*\\d" % library, re.I))

    def test_help(self):
        answer = harness.heapcore("--help")
        self.assertEqual(answer.status, 0, str(answer))
        for command in harness.COMMANDS:
            self.assertIn(command, answer.stdout)


def foreign_pid():
    """A process of another user that is no ancestor of this one."""
    ancestors, pid = set(), os.getpid()
    while pid:
        ancestors.add(pid)
        with open("/proc/%d/stat" % pid) as file:
            pid = int(file.read().rpartition(")")[2].split()[1])
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):  # it may end meanwhile; not every entry is a process
            with open("/proc/%d/status" % int(name)) as file:
                has_memory = "VmSize:" in file.read()  # a kernel thread has none
            if has_memory and int(name) not in ancestors and os.stat("/proc/" + name).st_uid != os.geteuid():
                return int(name)
    return None


def become_nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


if __name__ == "__main__":
    harness.main()
