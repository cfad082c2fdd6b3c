"""What no Python object owns: a C++ library that Python loads says how many objects of which classes and how many other
blocks it allocated, and heapcore must count the same, with the library's symbols and without."""

import json
import os
import shutil
import subprocess
import unittest

import harness

LIBRARY = ("native_shop.cc", "native_bare.cc")
PROGRAM = r"""
import ctypes, json, sys, time
path, truth, leaks = sys.argv[1:]
shop = ctypes.CDLL(path)
counts = {"shop::Order": 1300, "shop::Invoice": 700, "shop::Box<int>": 500, "(anonymous namespace)::Hidden": 300,
          "shop::Order[]": 90, "shop::Box<char>": int(leaks)}
shop.make(1300, 700, 500, 300, 90)
shop.leak(int(leaks))
blocks = [(60, 5003, "text"), (70, 6007, "zeroes"), (80, 7001, "high entropy"), (90, 8009, "pointers"),
          (50, 9001, "ops"), (40, 10007, "small numbers"), (5, 300000, "text")]
for count, size, content in blocks:
    shop.fill(count, size, content.encode())
shop.taken_bytes.restype = ctypes.c_long
taken = {name: shop.taken_bytes(number) for number, name in enumerate(counts)}
bare = shop.make_bare(250)
with open(truth, "w") as file:
    json.dump({"counts": counts, "taken": taken, "blocks": blocks, "bare": bare}, file)
sys.stdout.write("r")
sys.stdout.flush()
while True:
    time.sleep(1000)
"""


def chunk_bytes(size):
    """What malloc takes for `size` bytes on x86-64; from the mmap threshold on, a mapping."""
    if size >= 128 * 1024:
        return (size + 16 + 4095) // 4096 * 4096
    return max(32, (size + 8 + 15) // 16 * 16)


def a_python():
    known = [i for i in harness.interpreters() if i.version >= (3, 8) and i.origin == "installed" and not i.free_threaded]
    return known[-1] if known else None


class Native(harness.TargetTest):
    """One class for each way to build the library, made below."""

    options = []
    strips = False
    takes_core = False

    @classmethod
    def setUpClass(cls):
        interpreter = a_python()
        for missing in [tool for tool in ("c++", "strip") if shutil.which(tool) is None] or ([] if interpreter else ["Python"]):
            harness.skipped("C++ objects", "there is no " + missing)
            raise unittest.SkipTest("no " + missing)
        folder = cls.temporary_directory()
        library = os.path.join(folder, "libshop.so")
        parts = []
        for source in LIBRARY:
            parts.append(os.path.join(folder, source + ".o"))
            rtti = ["-fno-rtti"] if source == "native_bare.cc" else []
            subprocess.run(["c++", "-O1", "-fPIC", "-fvisibility=hidden", "-fno-builtin", *rtti, "-c", "-o", parts[-1],
                            os.path.join(harness.PROGRAMS, source)], check=True)
        subprocess.run(["c++", "-shared", "-o", library, *parts, *cls.options], check=True)
        if cls.strips:
            subprocess.run(["strip", "--strip-all", library], check=True)
        truth = os.path.join(folder, "truth.json")
        program = os.path.join(folder, "program.py")
        with open(program, "w") as file:
            file.write(PROGRAM)
        cls.command = [interpreter.path, "-B", "-S", program, library, truth]
        target = cls.start([*cls.command, "400"], 0x33, folder).wait_ready()
        with open(truth) as file:
            cls.truth = json.load(file)
        cls.views = {"live": ["--pid", str(target.pid)]}
        if cls.takes_core and not harness.why_no_gcore():
            cls.views["core"] = [target.gcore()]
        cls.documents = {}
        for view, where in cls.views.items():
            cls.documents[view] = harness.heapcore("malloc", *where, "--unowned", "--json", "--limit", "0").document

    def test_objects_are_counted_by_class(self):
        for view, document in self.documents.items():
            with self.subTest(view):
                found = {row["name"]: row for row in document["classes"] if row["module"] == "libshop.so"}
                for name, count in self.truth["counts"].items():
                    self.assertEqual(found[name]["count"], count, name)
                    self.assertEqual(found[name]["bytes"], self.truth["taken"][name], name)
                    self.assertGreaterEqual(found[name]["unowned"]["count"], 0.99 * count, name)
                expected = set(self.truth["counts"]) | (set() if self.strips else {"shop::Bare"})
                self.assertEqual(set(found), expected)

    def test_a_class_without_type_info_needs_its_symbol(self):
        size = chunk_bytes(self.truth["bare"])
        for view, document in self.documents.items():
            with self.subTest(view):
                if not self.strips:
                    row = [row for row in document["classes"] if row["name"] == "shop::Bare"][0]
                    self.assertEqual((row["count"], row["bytes"]), (250, 250 * size))
                    continue
                rows = [row for row in document["clusters"] if row["size_from"] == size and row["first_word"] == "data of libshop.so"]
                self.assertEqual(sum(row["count"] for row in rows), 250)
                self.assertEqual({row["held_by"] for row in rows}, {"static data of libshop.so"})

    def test_blocks_are_clustered(self):
        for view, document in self.documents.items():
            with self.subTest(view):
                for count, size, content in self.truth["blocks"]:
                    rows = [row for row in document["clusters"] if row["size_from"] == row["size_to"] == chunk_bytes(size)]
                    self.assertEqual(len(rows), 1, (size, rows))
                    row = rows[0]
                    self.assertEqual((row["count"], row["bytes"]), (count, count * chunk_bytes(size)))
                    self.assertEqual(row["held_by"], "static data of libshop.so")
                    self.assertEqual(row["content"], "mixed" if content == "ops" else content)
                    self.assertEqual((row["first_word"] or "").partition(":")[0], "data of libshop.so" if content == "ops" else "")
                    self.assertEqual([sample["text"] for sample in row["samples"]], [None] * len(row["samples"]))
                    self.assertTrue(row["samples"])

    def test_what_is_counted_adds_up(self):
        for view, document in self.documents.items():
            with self.subTest(view):
                native = sum(row["unowned"]["bytes"] for row in document["classes"]) + sum(row["bytes"] for row in document["clusters"])
                self.assertEqual(native, document["total"]["bytes"])
                owners = document["owners"]
                self.assertEqual(sum(row["bytes"] for row in owners["owners"]) + owners["unowned"]["bytes"], owners["total"]["bytes"])

    def test_contents_only_if_asked_for(self):
        where = self.views["live"]
        for form in ([], ["--json"]):
            self.assertNotIn("the secret", harness.heapcore("malloc", *where, "--unowned", "--limit", "0", *form).stdout)
            said = harness.heapcore("malloc", *where, "--unowned", "--limit", "0", "--values", *form).stdout
            self.assertIn("the secret of the order", said)

    def test_the_report_says_the_same(self):
        report = harness.check_contract(harness.heapcore("report", *self.views["live"], "--json", "--limit", "0"))
        for key in ("total", "classes", "clusters", "classes_count", "clusters_count"):
            self.assertEqual(report["native"][key], self.documents["live"][key], key)


class WithSymbols(Native, unittest.TestCase):
    takes_core = True


class Stripped(Native, unittest.TestCase):
    strips = True
    takes_core = True


    def test_a_leak_is_named_by_its_class(self):
        target = self.start([*self.command, "600000"]).wait_ready()
        report = harness.check_contract(harness.heapcore("report", "--pid", str(target.pid), "--json"))
        finding = report["findings"][0]
        self.assertEqual((finding["code"], finding["severity"]), ("native-growth", "high"))
        said = [line for line in finding["evidence"] if "shop::Box<char> (libshop.so)" in line]
        self.assertEqual(len(said), 1, finding)
        self.assertIn("600,000 of them", said[0])


class WithoutRelro(Native, unittest.TestCase):
    options = ["-Wl,-z,norelro"]
    strips = True
    test_the_report_says_the_same = None
    test_contents_only_if_asked_for = None


if __name__ == "__main__":
    harness.main()
