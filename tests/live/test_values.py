"""`heapcore show` on one object of each kind, against what the interpreter itself says of them (samples.py)."""

import json
import os
import subprocess
import unittest

import harness

MOST_DIFFERENCES = 25


class View:
    """One process seen one way: what heapcore shows of its samples."""

    def __init__(self, label, target_arguments, samples):
        self.label = label
        self.samples = samples
        words = [sample["address"] for sample in samples]
        answer = harness.heapcore("show", *target_arguments, *words, "--json", "--values", "--limit", "0")
        self.answer = answer
        self.shown = harness.check_contract(answer)["addresses"]


def read_samples(target):
    with open(os.path.join(target.directory, "samples.json")) as file:
        return json.load(file)


def by_name(parts):
    return {part["name"]: part["value"] for part in parts}


def items_of(shown):
    return [[item[key] for key in ("key", "value") if key in item] for item in shown["items"]]


class Checks:
    """What must be true of `views`."""

    views = ()

    def assert_each(self, check):
        """`check` gives, of a sample and what is shown of it, pairs of what is expected and what is there."""
        for view in self.views:
            with harness.checking(self, view.label, "values"):
                self.assertEqual(len(view.samples), len(view.shown))
                lines = []
                for sample, sight in zip(view.samples, view.shown):
                    self.assertEqual(sample["address"], sight["address"])
                    if sight["object"] is None:
                        lines.append("%s: no object" % sample["name"])
                        continue
                    lines += ["%s: expected %s, got %s" % (sample["name"], expected, actual)
                              for expected, actual in check(sample, sight["object"]) if expected != actual]
                if lines:
                    rest = ["and %d more" % (len(lines) - MOST_DIFFERENCES)] if len(lines) > MOST_DIFFERENCES else []
                    self.fail("\n  ".join([""] + lines[:MOST_DIFFERENCES] + rest))

    def test_answer_is_complete(self):
        self.assertEqual(self.views[0].answer.status, 0, str(self.views[0].answer))

    def test_values(self):
        self.assert_each(lambda sample, shown: [(sample["text"], shown["value"])])

    def test_types(self):
        self.assert_each(lambda sample, shown: [(sample["type"], shown["type"])])

    def test_sizes(self):
        self.assert_each(lambda sample, shown: [(sample["bytes"], shown["bytes"])])

    def test_items(self):
        self.assert_each(lambda sample, shown: [(sample["items"] or [], items_of(shown))]
                         if sample["items"] is not None else [])

    def test_attributes(self):
        self.assert_each(lambda sample, shown: [(sample["attributes"], by_name(shown["attributes"]))]
                         if sample["attributes"] is not None else [])

    def test_locals(self):
        self.assert_each(lambda sample, shown: [(sample["locals"], by_name(shown["locals"]))]
                         if sample["locals"] is not None else [])

    def test_fields(self):
        self.assert_each(lambda sample, shown: [(expected, (name, by_name(shown["fields"]).get(name)))
                                                for expected in sample["fields"].items() for name in expected[:1]])


@harness.for_each_interpreter
class Values(Checks, harness.TargetTest):
    interpreter = None

    @classmethod
    def setUpClass(cls):
        target = cls.start_python(cls.interpreter, "zoo.py")
        samples = read_samples(target)
        cls.pid = target.pid
        cls.views = [View("live", ["--pid", str(target.pid)], samples)]
        if harness.why_no_gcore():
            harness.skipped("gcore of the samples", harness.why_no_gcore())
        else:
            cls.views.append(View("gcore", [target.gcore()], samples))
        if harness.why_no_kernel_core():
            harness.skipped("kernel cores of the samples", harness.why_no_kernel_core())
            return
        another = cls.start_python(cls.interpreter, "zoo.py", harness.KERNEL_FILTERS[0])
        samples = read_samples(another)
        cls.views.append(View("kernel core, filter 0x%x" % harness.KERNEL_FILTERS[0], [another.kernel_core()], samples))

    def show(self, *words):
        return harness.heapcore("show", "--pid", str(self.pid), *words)

    def test_contents_are_withheld(self):
        """Without --values no text of the samples shows, but for names, which these are not."""
        secrets = ["plain ascii text", "went wrong", "on a list", "snake", "bytes \\x00", "'again'"]
        addresses = [sample["address"] for sample in self.views[0].samples]
        for form in ((), ("--json",)):
            answer = self.show(*addresses, "--limit", "0", *form)
            self.assertEqual(answer.status, 0, str(answer))
            for secret in secrets:
                self.assertNotIn(secret, answer.stdout)

    def test_text_names_what_json_does(self):
        samples = {sample["name"]: sample for sample in self.views[0].samples}
        chosen = [samples[name] for name in ("plain", "dict of ints", "two digits", "builtin class")]
        answer = self.show(*[sample["address"] for sample in chosen], "--values")
        for sample in chosen:
            self.assertIn(sample["type"], answer.stdout)
            self.assertIn(sample["text"], answer.stdout)

    def test_an_address_inside_is_the_objects(self):
        samples = [s for s in self.views[0].samples if s["name"] in ("list of many", "exception", "long text", "plain")]
        inside = [hex(int(sample["address"], 16) + offset) for sample in samples for offset in (-8, 8, 12)]
        # A str has no header, so what is 8 bytes before it is another's.
        shown = harness.check_contract(self.show(*inside, "--json"))["addresses"]
        for i, sight in enumerate(shown):
            sample, offset = samples[i // 3], (-8, 8, 12)[i % 3]
            has_header = sample["name"] != "long text"
            if offset > 0 or has_header and self.interpreter.minor != "2.7" and not self.interpreter.free_threaded:
                self.assertEqual((sight["object"] or {}).get("address"), sample["address"], (sample["name"], offset))
                self.assertEqual(sight["object"]["offset"], offset)

    def test_decimal_addresses(self):
        sample = self.views[0].samples[0]
        shown = harness.check_contract(self.show(str(int(sample["address"], 16)), "--json"))["addresses"]
        self.assertEqual(shown[0]["object"]["address"], sample["address"])

    def test_what_is_no_object(self):
        with open("/proc/%d/maps" % self.pid) as file:
            maps = [line.split() for line in file]
        code = next(int(fields[0].split("-")[0], 16) for fields in maps if "x" in fields[1] and "/" in fields[-1])
        shown = harness.check_contract(self.show(hex(code + 64), "0x10", "--json"))["addresses"]
        self.assertIsNone(shown[0]["object"])
        self.assertIn("/", shown[0]["module"]["path"])
        self.assertIn("x", shown[0]["mapping"]["permissions"])
        self.assertEqual((shown[1]["mapping"], shown[1]["object"], shown[1]["block"]), (None, None, None))

    def test_errors_say_what_to_do(self):
        for words, said in (((), "name one or more"), (("here",), "hexadecimal"), (("7f00zz",), "decimal")):
            answer = self.show(*words)
            self.assertEqual(answer.status, 2, str(answer))
            self.assertIn(said, answer.stderr)

    def test_types_by_name(self):
        run = lambda *words: harness.check_contract(harness.heapcore("types", "--pid", str(self.pid), "--json", *words))
        everything = run()
        chosen = run("--name", "samples.*Child", "--name", "deque", "--name", "dict")
        names = {(row["module"], row["name"]) for row in chosen["types"]}
        self.assertIn(("samples", "ListChild"), names)
        self.assertIn((self.interpreter.version < (3,) and "__builtin__" or "builtins", "dict"), names)
        self.assertNotIn(("collections", "deque"), names)
        self.assertEqual(chosen["total"], everything["total"])
        rows = [row for row in everything["types"] if (row["module"], row["name"]) in names]
        self.assertEqual(chosen["types"], rows)
        for column in ("count", "bytes"):
            self.assertEqual(chosen["selected"][column], sum(row[column] for row in rows))
        self.assertIsNone(everything["selected"])


class Arrays(harness.TargetTest, unittest.TestCase):
    """numpy's arrays, wherever an interpreter here has numpy."""

    def test_every_numpy(self):
        found = 0
        for interpreter in harness.interpreters():
            has_numpy = subprocess.run([interpreter.path, "-c", "import numpy"], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL).returncode == 0
            if not has_numpy or interpreter.version < (3, 6):
                continue
            found += 1
            with self.subTest(str(interpreter)):
                self.check(interpreter)
        if found == 0:
            harness.skipped("numpy's arrays", "no interpreter here has numpy")

    def check(self, interpreter):
        directory = self.temporary_directory()
        program = os.path.join(harness.PROGRAMS, "arrays.py")
        target = harness.Target([interpreter.path, "-B", program, directory], directory, env=dict(os.environ))
        self.addCleanup(target.stop)
        target.wait_ready()
        with open(os.path.join(directory, "arrays.json")) as file:
            truth = json.load(file)
        print("numpy %s" % truth["numpy"])
        answer = harness.heapcore("show", "--pid", str(target.pid), "--json", "--limit", "0",
                                  *[array["address"] for array in truth["arrays"]])
        self.assertEqual(answer.status, 0, str(answer))
        for array, sight in zip(truth["arrays"], harness.check_contract(answer)["addresses"]):
            shown = sight["object"]
            fields = by_name(shown["fields"])
            self.assertEqual(array["fields"], {name: fields.get(name) for name in array["fields"]}, array["name"])
            self.assertEqual(array["bytes"], shown["bytes"], array["name"])
            base = [part["address"] for part in shown["fields"] if part["name"] == "base"]
            self.assertEqual([array["base"]] if array["base"] else [], base, array["name"])


if __name__ == "__main__":
    harness.main()
