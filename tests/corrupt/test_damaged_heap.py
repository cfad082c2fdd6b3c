"""Reports on the sample core with its heaps damaged: pages overwritten, zeroed, words of the allocators' own structures
changed, pointers led astray. Each report must end soon, within limits, with a status that means something, and with a
ledger whose total is what was mapped. Seeds are fixed, so that a failure can be had again."""

import concurrent.futures
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "live"))
import harness  # noqa: E402

SAMPLE = os.path.join(harness.ROOT, "testdata", "leaky_worker.core.zst")
PAGE = 4096
WORD = struct.Struct("<Q")
MEMORY_LIMIT = 4 << 30
TIMEOUT_SECONDS = 60
MUTANTS_OF_EACH_KIND = int(os.environ.get("HEAPCORE_MUTANTS", "40"))
EXTREMES = (0, 1, 8, 15, 0x21, 1 << 31, 1 << 47, 1 << 63, (1 << 63) - 1, (1 << 64) - 1, (1 << 64) - 16)


class Core:
    """An uncompressed core and its PT_LOADs: (address, file offset, bytes in file, flags)."""

    def __init__(self, contents):
        self.bytes = bytearray(contents)
        table, count = struct.unpack_from("<Q", contents, 32)[0], struct.unpack_from("<H", contents, 56)[0]
        self.loads = []
        for i in range(count):
            kind, flags, offset, address, _, size, _, _ = struct.unpack_from("<IIQQQQQQ", contents, table + 56 * i)
            if kind == 1 and size:
                self.loads.append((address, offset, size, flags))
        self.writable = [load for load in self.loads if load[3] & 2]

    def offset(self, address):
        for start, offset, size, _ in self.loads:
            if start <= address < start + size:
                return offset + address - start
        return None

    def address(self, at):
        """Of what is at an offset in the file."""
        return next((start + at - offset for start, offset, size, _ in self.loads if offset <= at < offset + size), None)

    def get(self, offset):
        return WORD.unpack_from(self.bytes, offset)[0]

    def random_offset(self, rng, align):
        total = sum(size for _, _, size, _ in self.writable)
        at = rng.randrange(total)
        for _, offset, size, _ in self.writable:
            if at < size:
                return offset + at // align * align
            at -= size
        raise AssertionError


def limit():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Run:
    """One report: its answer, and the processor time and memory it took."""

    def __init__(self, path, limited, command=("report",)):
        self.command = command
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen([harness.binary(), command[0], path, *command[1:], "--json", "--no-progress"], stdout=out, stderr=err,
                                       stdin=subprocess.DEVNULL, preexec_fn=limit if limited else None)
            deadline = time.monotonic() + TIMEOUT_SECONDS
            self.hung = False
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() > deadline and not self.hung:
                    self.hung = True
                    process.kill()
                time.sleep(0.002)
            process.returncode = self.status = os.waitstatus_to_exitcode(status)
            self.seconds = usage.ru_utime + usage.ru_stime
            self.kib = usage.ru_maxrss
            out.seek(0)
            err.seek(0)
            self.out = out.read()
            self.err = err.read().decode(errors="replace")

    def complaint(self, seconds, kib):
        """What is wrong with it, or None."""
        if self.hung:
            return "still running after %d s" % TIMEOUT_SECONDS
        if self.status not in (0, 1, 3):
            return "status %d: %s" % (self.status, self.err[-300:])
        if self.seconds > seconds:
            return "%.2f s of processor time (limit %.2f s)" % (self.seconds, seconds)
        if self.kib > kib:
            return "%d KiB of memory (limit %d KiB)" % (self.kib, kib)
        if self.status == 3:
            return None if self.err and not self.out else "status 3, but %r and %r" % (self.err[:100], self.out[:100])
        try:
            answer = json.loads(self.out)
        except ValueError as error:
            return "no JSON: %s" % error
        if (self.status == 1) != bool(answer["warnings"]):
            return "status %d with %d warnings" % (self.status, len(answer["warnings"]))
        if self.command != ("report",):
            return None
        total = sum(row["bytes"] for row in answer["ledger"]["ledger"])
        if not total == answer["ledger"]["total"]["mapped_bytes"] == answer["target"]["mapped_bytes"]:
            return "ledger of %d, total %d, mapped %d" % (
                total, answer["ledger"]["total"]["mapped_bytes"], answer["target"]["mapped_bytes"])
        if any(row["bytes"] < row["not_dumped_bytes"] or row["bytes"] < 0 for row in answer["ledger"]["ledger"]):
            return "a ledger row with more missing than there is"
        return None


class DamagedHeap(unittest.TestCase):
    commands = (("report",),)

    @classmethod
    def setUpClass(cls):
        if shutil.which("zstd") is None:
            harness.skipped("damaged heaps", "no zstd to unpack the sample")
            raise unittest.SkipTest("no zstd")
        cls.core = Core(subprocess.run(["zstd", "-dc", SAMPLE], stdout=subprocess.PIPE, check=True).stdout)
        cls.folder = tempfile.mkdtemp(prefix="heapcore-corrupt-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        path = cls.write("undamaged", [])
        cls.limited = Run(path, True).status in (0, 1)  # not so with some sanitizers
        runs = [Run(path, cls.limited, command) for _ in range(3) for command in cls.commands]
        assert runs[0].complaint(60, 4 << 20) is None, runs[0].complaint(60, 4 << 20)
        cls.seconds = 20 * max(run.seconds for run in runs) + 0.5
        cls.kib = 4 * max(run.kib for run in runs)
        cls.malloc = harness.heapcore("malloc", path, "--json").document
        cls.pymalloc = harness.heapcore("pymalloc", path, "--json").document

    @classmethod
    def write(cls, name, changes):
        contents = bytearray(cls.core.bytes)
        for offset, new in changes:
            contents[offset:offset + len(new)] = new
        assert len(contents) == len(cls.core.bytes)
        path = os.path.join(cls.folder, name)
        with open(path, "wb") as file:
            file.write(contents)
        return path

    def check(self, make_changes):
        """make_changes(rng) gives a list of (file offset, bytes)."""
        def one(seed):
            name = "%s-%d" % (self.id().rsplit(".", 1)[-1], seed)
            path = self.write(name, make_changes(random.Random(name)))
            run = Run(path, self.limited, self.commands[seed % len(self.commands)])
            complaint = run.complaint(self.seconds, self.kib)
            if complaint and os.environ.get("HEAPCORE_KEEP"):
                shutil.copy(path, os.environ["HEAPCORE_KEEP"])
            os.unlink(path)
            return "%s, %s: %s" % (name, run.command, complaint) if complaint else None

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            complaints = [line for line in pool.map(one, range(MUTANTS_OF_EACH_KIND)) if line]
        self.assertEqual(complaints, [])

    def other_value(self, rng, offset):
        value = self.core.get(offset)
        choices = [rng.choice(EXTREMES), rng.getrandbits(64), value ^ 1 << rng.randrange(64), value + rng.choice((-16, -8, 8, 16, PAGE)),
                   self.core.get(self.core.random_offset(rng, 8)), self.random_address(rng)]
        return WORD.pack(rng.choice(choices) & (1 << 64) - 1)

    def random_address(self, rng):
        start, _, size, _ = rng.choice(self.core.writable)
        return start + rng.randrange(size) // 16 * 16

    def test_page_of_noise(self):
        self.check(lambda rng: [(self.core.random_offset(rng, PAGE), rng.randbytes(PAGE)) for _ in range(rng.randint(1, 8))])

    def test_page_of_zeros(self):
        self.check(lambda rng: [(self.core.random_offset(rng, PAGE), bytes(PAGE)) for _ in range(rng.randint(1, 8))])

    def test_words(self):
        def changes(rng):
            offsets = [self.core.random_offset(rng, 8) for _ in range(rng.choice((1, 30, 1000)))]
            return [(offset, self.other_value(rng, offset)) for offset in offsets]
        self.check(changes)

    def test_pointers_led_astray(self):
        def changes(rng):
            result = []
            for _ in range(20000):
                offset = self.core.random_offset(rng, 8)
                if self.core.offset(self.core.get(offset)) is not None:
                    result.append((offset, WORD.pack(self.random_address(rng))))
            return result
        self.check(changes)

    def test_malloc_state(self):
        addresses = [int(arena["address"], 16) for arena in self.malloc["arenas"]]

        def changes(rng):
            offsets = [self.core.offset(rng.choice(addresses) + rng.randrange(0, 2200, 8)) for _ in range(rng.randint(1, 12))]
            return [(offset, self.other_value(rng, offset)) for offset in offsets]
        self.check(changes)

    def chunk_headers(self):
        """File offsets of the size fields in the main heap, found by walking from the lowest chunk of a heap to the top."""
        found = []
        for _, offset, size, _ in self.core.writable:
            at, chain = offset, []
            while at + 16 <= offset + size:
                chunk = self.core.get(at + 8) & ~7
                if chunk < 32 or chunk > offset + size - at:
                    break
                chain.append(at + 8)
                at += chunk
            if len(chain) > len(found):
                found = chain
        return found

    def test_chunk_headers(self):
        headers = self.chunk_headers()
        self.assertGreater(len(headers), 100)

        def changes(rng):
            offsets = [rng.choice(headers) + rng.choice((0, 0, 0, -8, 8, 16)) for _ in range(rng.choice((1, 5, 500)))]
            return [(offset, self.other_value(rng, offset)) for offset in offsets]
        self.check(changes)

    def test_pool_headers(self):
        pools = []
        for arena in self.pymalloc["arenas"]:
            first = int(arena["address"], 16)
            pools += [at for at in (self.core.offset(first + i * 4 * PAGE) for i in range(64)) if at is not None]
        self.assertGreater(len(pools), 30)

        def changes(rng):
            offsets = [rng.choice(pools) + rng.randrange(0, 48, 8) for _ in range(rng.choice((1, 5, 100)))]
            return [(offset, self.other_value(rng, offset)) for offset in offsets]
        self.check(changes)

    def test_runtime(self):
        """The interpreter's and libc's own data: _PyRuntime, the arena table's root, static types, mp_."""
        modules = [load for load in self.core.writable if self.core.offset(load[0]) is not None and load[2] < 2 << 20]

        def changes(rng):
            result = []
            for _ in range(rng.choice((1, 20, 400))):
                _, offset, size, _ = rng.choice(modules)
                at = offset + rng.randrange(size) // 8 * 8
                result.append((at, self.other_value(rng, at)))
            return result
        self.check(changes)


if __name__ == "__main__":
    harness.main()
