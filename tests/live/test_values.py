"""`heapcore show` on one object of each kind, against what the interpreter itself says of them (samples.py)."""

import json
import os

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


def by_name(parts):
    return {part["name"]: part["value"] for part in parts}


def items_of(shown):
    return [[item[key] for key in ("key", "value") if key in item] for item in shown["items"]]


@harness.for_each_interpreter
class Values(harness.TargetTest):
    interpreter = None

    @classmethod
    def setUpClass(cls):
        target = cls.start_python(cls.interpreter, "zoo.py")
        with open(os.path.join(target.directory, "samples.json")) as file:
            samples = json.load(file)
        cls.views = [View("live", ["--pid", str(target.pid)], samples)]
        if harness.why_no_gcore():
            harness.skipped("gcore of the samples", harness.why_no_gcore())
        else:
            cls.views.append(View("gcore", [target.gcore()], samples))

    def assert_each(self, check):
        """`check` gives, of a sample and what is shown of it, pairs of what is expected and what is there."""
        for view in self.views:
            with self.subTest(view.label):
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


if __name__ == "__main__":
    harness.main()
