"""The ledger's rows of Python objects, by groups of types: exact to the byte against what a program says it made."""

import json
import os
import unittest

import harness

PROGRAM = r"""
import json, sys, time
class Row(object):
    __slots__ = ("value",)
class Ledger(dict):
    pass
rows = [Row() for _ in range(30000)]
numbers = [i + 0.5 for i in range(20000)]
ledgers = [Ledger() for _ in range(1000)]
long_texts = ["%d " % i + "x" * 5000 for i in range(200)]
json.dump({"row": sys.getsizeof(rows[0]), "number": sys.getsizeof(numbers[0]), "text": sys.getsizeof(long_texts[100])},
          open(sys.argv[1], "w"))
sys.stdout.write("r")
sys.stdout.flush()
while True:
    time.sleep(1000)
"""


def some_interpreters():
    """2.7, whose numbers are in blocks of their own; a stripped one, the newest, and a free-threaded one."""
    known = harness.interpreters()
    with_gil = [i for i in known if not i.free_threaded]
    chosen = [i for i in with_gil if i.version < (3,)][:1] + [i for i in with_gil if i.stripped and i.version > (3,)][:1]
    chosen += with_gil[-1:] + [i for i in known if i.free_threaded][-1:]
    return [i for n, i in enumerate(chosen) if i not in chosen[:n]]


class Groups(harness.TargetTest):
    interpreter = None

    @classmethod
    def setUpClass(cls):
        directory = cls.temporary_directory()
        program, truth = os.path.join(directory, "program.py"), os.path.join(directory, "truth.json")
        with open(program, "w") as file:
            file.write(PROGRAM)
        target = cls.start([cls.interpreter.path, "-B", "-S", program, truth], 0x33, directory).wait_ready()
        cls.document = harness.check_contract(harness.heapcore("ledger", "--pid", str(target.pid), "--json", "--limit", "0"))
        cls.mapped_bytes = target.mapped_bytes()
        with open(truth) as file:
            cls.truth = json.load(file)
        cls.rows = [row for row in cls.document["ledger"] if row["category"] == "python objects"]

    def of(self, group, name):
        """The bytes of a type in the rows of its group, whatever memory they lie in."""
        return sum(entry["bytes"] for row in self.rows if row["detail"].startswith(group)
                   for entry in row["types"] if entry["type"] == name)

    def test_total(self):
        self.assertEqual(sum(row["bytes"] for row in self.document["ledger"]), self.mapped_bytes)

    def test_every_object_is_of_a_group(self):
        for row in self.rows:
            if self.interpreter.version < (3,) and row["detail"] == "in malloc chunks":
                continue  # the room between its ints and floats
            self.assertTrue(row["types"], row)
            self.assertLessEqual(sum(entry["bytes"] for entry in row["types"]), row["bytes"])
            self.assertEqual(row["types"], sorted(row["types"], key=lambda entry: (-entry["bytes"], entry["type"])))
        details = [row["detail"] for row in self.rows]
        self.assertEqual(len(details), len(set(details)))

    def test_bytes_are_the_allocators(self):
        aligned = lambda bytes_: (bytes_ + 15) // 16 * 16
        self.assertEqual(self.of("instances of classes", "__main__.Row"), 30000 * aligned(self.truth["row"]))
        self.assertGreater(self.of("instances of classes", "__main__.Ledger"), 1000 * 48)
        number = aligned(self.truth["number"]) if self.interpreter.version > (3,) else self.truth["number"]  # in blocks of their own
        self.assertGreaterEqual(self.of("numbers", "float"), 20000 * number)
        self.assertLess(self.of("numbers", "float"), 21000 * number)
        text = self.of("strings and bytes", "str")
        self.assertGreater(text, 200 * self.truth["text"])

    def test_text(self):
        said = harness.heapcore("ledger", *self.document_target(), "--limit", "0").stdout
        self.assertIn("instances of classes in", said)
        self.assertIn("__main__.Row ", said)

    def document_target(self):
        return ["--pid", str(self.document["target"]["pid"])]


harness.make_test_classes(Groups, some_interpreters())

if __name__ == "__main__":
    harness.main()
