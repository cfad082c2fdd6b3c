"""What of each arena is live, and what pins it, against what the process itself says and what is freed when it lets go.

The program of testdata/programs/sparse_memory.py leaves survivors in nearly empty arenas and pages. Then it drops them:
how many arenas are freed _debugmallocstats says, how many pages of malloc's the kernel.
"""

import json
import os
import re
import signal
import time
import unittest

import harness

# Arenas that something else comes to use when the collector runs and figures are printed.
MOST_OTHER_ARENAS = 2
# What top gives back besides, pages that neighbours free with them, and arenas that others have a block in, too.
RESIDENT_TOLERANCE = 0.1


def debug_stats(text):
    """{name of the look: figures of obmalloc}"""
    parts = [part.partition("\n") for part in text.split("=== ")[1:]]
    return {name: harness.parse_debugmallocstats(stats) for name, _, stats in parts if stats.strip()}


@harness.for_each_interpreter
class Sparse(harness.TargetTest):
    interpreter = None

    @classmethod
    def setUpClass(cls):
        target = cls.start_python(cls.interpreter, "sparse_memory.py")
        with open(os.path.join(target.directory, "truth.json")) as file:
            cls.truth = json.load(file)
        places = [("live", ["--pid", str(target.pid)])]
        if harness.why_no_gcore():
            harness.skipped("gcore of sparse memory", harness.why_no_gcore())
        else:
            places.append(("gcore", [target.gcore()]))
        cls.views = []
        for label, where in places:
            documents = {command: harness.check_contract(harness.heapcore(command, *where, "--json", "--limit", "0"))
                         for command in ("map", "pins", "pymalloc", "malloc")}
            documents["all pins"] = harness.check_contract(
                harness.heapcore("pins", *where, "--json", "--limit", "0", "--below", "100"))
            cls.views.append((label, documents))
        os.kill(target.pid, signal.SIGUSR1)
        done = os.path.join(target.directory, "done")
        for _ in range(harness.RUN_SECONDS * 20):
            if os.path.exists(done):
                break
            time.sleep(0.05)
        with open(done) as file:
            cls.looks = json.load(file)["looks"]
        said = target.stderr().partition("=== without results")[0]
        # Twice, and of each length.
        cls.freed_tuples = sum(map(int, re.findall(r"(\d+) free \d+-sized PyTupleObjects", said))) // 2
        cls.stats = {} if cls.interpreter.free_threaded else debug_stats(target.stderr())  # mimalloc says nothing of use

    def python_pins(self, documents):
        return [pin for pin in documents["pins"]["pins"] if pin["allocator"] != "malloc"]

    def test_figures_are_the_allocators_own(self):
        for label, documents in self.views:
            with harness.checking(self, label, "blocks"):
                totals = {row["allocator"]: row for row in documents["map"]["allocators"]}
                py = documents["pymalloc"]
                row = totals[py["allocator"]]
                self.assertEqual((row["arenas"], row["bytes"], row["live_bytes"], row["free_bytes"]),
                                 (len(py["arenas"]), py["total"]["bytes"], py["total"]["bytes_in_use"], py["total"]["bytes_free"]))
                in_use = sum(arena["in_use"]["bytes"] for arena in documents["malloc"]["arenas"])
                self.assertEqual(totals["malloc"]["live_bytes"], in_use)
                self.assertEqual(totals["malloc"]["bytes"], sum(a["system_bytes"] for a in documents["malloc"]["arenas"]))
                if self.stats and py["allocator"] == "obmalloc" and self.interpreter.build == "release":
                    said = self.stats["full"]
                    self.assertEqual(row["arenas"], said["arenas"])
                    self.assertEqual(row["live_bytes"], said["bytes_in_use"])
                    self.assertEqual(row["free_bytes"], said["bytes_free"] + said["free_pools"] * said["pool_bytes"])

    def test_map_adds_up(self):
        for label, documents in self.views:
            with harness.checking(self, label, "blocks"):
                document = documents["map"]
                self.assertEqual(len(document["arenas"]), document["arenas_count"])
                self.assertEqual(sum(document["occupancy"]), document["arenas_count"])
                for row in document["allocators"]:
                    arenas = [a for a in document["arenas"] if a["allocator"] == row["allocator"]]
                    self.assertEqual(row["bytes"], row["live_bytes"] + row["free_bytes"] + row["overhead_bytes"])
                    for key in ("bytes", "live_bytes", "free_bytes"):
                        self.assertEqual(row[key], sum(arena[key] for arena in arenas))
                for arena in document["arenas"]:
                    cells = -(-arena["bytes"] // arena["cell_bytes"])
                    self.assertEqual(len(arena["pages"]), cells)
                    if arena["cell_bytes"] * cells == arena["bytes"]:
                        self.check_shades(arena)
                shares = [arena["live_bytes"] / arena["bytes"] for arena in document["arenas"]]
                self.assertEqual(shares, sorted(shares))

    def check_shades(self, arena):
        least = sum(max(int(c), 1 / 4096) * arena["cell_bytes"] / 10 for c in arena["pages"] if c.isdigit())
        most = sum((int(c) + 1) * arena["cell_bytes"] / 10 for c in arena["pages"] if c.isdigit())
        self.assertLessEqual(arena["live_bytes"], most + 1)
        # A share is rounded up by less than a cell's 250th part.
        self.assertGreaterEqual(arena["live_bytes"] + len(arena["pages"]) * arena["cell_bytes"] / 250, least - 1)

    def test_survivors_pin_the_arenas_that_are_freed_without_them(self):
        if not self.stats or self.interpreter.build != "release":
            harness.skipped("arenas freed of %s" % self.interpreter, "it does not say how many arenas it has")
            return
        freed = self.stats["full"]["arenas"] - self.stats["without results"]["arenas"]
        self.assertGreater(freed, 10)
        for label, documents in self.views:
            with harness.checking(self, label, "holders"):
                first = self.python_pins(documents)[0]
                self.assertEqual(first["type"], "__main__.TaskResult")
                self.assertEqual(first["held_by"], "__main__.survivors.results[...]")
                self.assertLessEqual(first["count"], self.truth["results"])
                self.assertGreater(first["count"], self.truth["results"] * 0.9)
                # The collector's run empties free lists, too.
                others = sum(pin["arenas"] for pin in self.python_pins(documents) if pin["type"].startswith("freed "))
                self.assertLessEqual(first["alone_in"], freed + MOST_OTHER_ARENAS)
                self.assertGreaterEqual(first["alone_in"], freed - others - MOST_OTHER_ARENAS)
                self.assertGreaterEqual(first["arenas"], first["alone_in"])
                arena_bytes = documents["pymalloc"]["arena_bytes"]
                self.assertLessEqual(first["kept_bytes"], first["arenas"] * arena_bytes)
                self.assertGreater(first["kept_bytes"], first["arenas"] * arena_bytes * 0.75)

    def test_buffers_pin_the_pages_that_go_back_without_them(self):
        if self.looks["full"]["in_use"] is None or self.interpreter.free_threaded:
            harness.skipped("pages freed of %s" % self.interpreter, "its buffers are not malloc's, or mallinfo2 is missing")
            return
        before, after = self.looks["without results"], self.looks["without buffers"]
        dropped = before["resident"] - after["resident"]
        for label, documents in self.views:
            with harness.checking(self, label, "holders"):
                pins = [pin for pin in documents["pins"]["pins"] if pin["allocator"] == "malloc"]
                first = pins[0]
                self.assertRegex(first["type"], r"\.bytearray$")
                self.assertEqual(first["held_by"], "__main__.survivors.buffers[...]")
                self.assertGreater(first["count"], self.truth["buffers"] * 0.9)
                forecast = first["kept_bytes"] + first["bytes"]
                # The bytearrays themselves lie in small blocks.
                forecast += sum(pin["alone_bytes"] for pin in self.python_pins(documents) if pin["held_by"] == first["held_by"])
                self.assertLess(abs(forecast - dropped), dropped * RESIDENT_TOLERANCE)

    def test_free_lists_are_named(self):
        if not self.freed_tuples or self.interpreter.free_threaded:  # there, what is freed bears another count
            harness.skipped("free lists of %s" % self.interpreter, "it does not say how long they are")
            return
        for label, documents in self.views:
            with harness.checking(self, label, "holders"):
                pins = [pin for pin in documents["all pins"]["pins"] if pin["type"] == "freed builtins.tuple"]
                self.assertEqual(sum(pin["count"] for pin in pins), self.freed_tuples)

    def test_totals_count_every_arena_once(self):
        for label, documents in self.views:
            with harness.checking(self, label, "holders"):
                arenas = {a["address"]: a for a in documents["map"]["arenas"] if a["allocator"] == "obmalloc"}
                sparse = [a for a in arenas.values() if 0 < a["live_bytes"] < a["bytes"] / 4]
                for row in documents["pins"]["allocators"]:
                    self.assertEqual(row["bytes"], row["kept_bytes"] + row["live_bytes"])
                    pins = [pin for pin in documents["pins"]["pins"] if pin["allocator"] == row["allocator"]]
                    self.assertLessEqual(sum(pin["alone_bytes"] for pin in pins), row["kept_bytes"])
                    self.assertLessEqual(max(pin["kept_bytes"] for pin in pins), row["kept_bytes"])
                    # Every live byte is a block's, and every block some group's; of 2.7's blocks of numbers only the
                    # numbers are.
                    attributed = sum(pin["bytes"] for pin in pins)
                    self.assertLessEqual(attributed, row["live_bytes"])
                    if self.interpreter.version >= (3,):
                        self.assertEqual(attributed, row["live_bytes"])
                    if row["allocator"] == "obmalloc":
                        self.assertEqual(row["arenas"], len(sparse))
                        self.assertEqual(row["live_bytes"], sum(a["live_bytes"] for a in sparse))


if __name__ == "__main__":
    harness.main()
