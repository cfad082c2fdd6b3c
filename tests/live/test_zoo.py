"""A CPython process of known content, and heapcore's account of it: live, from gcore, and from the kernel's cores."""

import functools
import json
import os

import harness

QUESTIONS = {"types": ["types"], "tracked": ["types", "--tracked"], "pymalloc": ["pymalloc"], "malloc": ["malloc"],
             "ledger": ["ledger"], "verify": ["verify"]}

# The program counts while its final state already stands (see zoo.py), so nothing is perturbed. Where a version of the
# interpreter makes that impossible, here is what counting adds: 3.6 tracks the frames of running functions, of which two
# more run while counting; 3.14 tracks all dicts, and counting is done with two.
def measuring_adds(version):
    if version < (3, 7):
        return {(builtins(version), "frame"): 2}
    return {("builtins", "dict"): 2} if version >= (3, 14) else {}


# In 3.14 counting reaches its own tables as well: up to so many dicts and lists, and any number of ints.
MEASURING_REACHES = 8


def builtins(version):
    return "builtins" if version >= (3,) else "__builtin__"


def sizes_unknown(key, version):
    """From 3.14 on heapcore does not know where ctypes' types keep their format strings: a few bytes of each."""
    return version >= (3, 14) and "ctypes" in key[0]


class View:
    """One process seen one way: what heapcore answered, and what must be true of it."""

    def __init__(self, label, target_arguments, truth, mapped_bytes):
        self.label = label
        self.truth = truth
        self.mapped_bytes = mapped_bytes
        self.answers = {name: harness.heapcore(*words, *target_arguments, "--json")
                        for name, words in QUESTIONS.items()}

    def document(self, name):
        return harness.check_contract(self.answers[name])


def read_truth(target):
    truth = {"pymalloc": harness.pymalloc_truth(target)}
    with open(os.path.join(target.directory, "truth.json")) as file:
        truth.update(json.load(file))
    path = os.path.join(target.directory, "malloc_info.xml")
    if os.path.exists(path):
        with open(path) as file:
            truth["malloc"] = harness.twice_malloc_info(file.read())
    else:
        harness.skipped("malloc_info of the zoo", "its interpreter has no ctypes")
    return truth


def most_alive(key, reachable, version, slack=20):
    """How many objects of a type may be alive. Beyond what the program can reach there are those that C code alone
    holds, and of every code object two parts that Python code does not see (co_localsplusnames, co_localspluskinds).
    """
    hidden = reachable[("builtins", "code")] if key in (("builtins", "tuple"), ("builtins", "bytes")) else 0
    if key == ("builtins", "str") and version >= (3, 12):
        hidden = reachable[key] * 0.04  # interned ones live for ever, though nobody holds them any more
    return reachable.get(key, 0) * 1.02 + slack + hidden


def without_threads(value):
    """malloc's arenas but for whose they are, which a core does not always tell."""
    if isinstance(value, list):
        return [{k: v for k, v in item.items() if k != "threads"} for item in value]
    return value


def on_each_view(*questions):
    """Makes a test that looks at the answers to `questions` in every view of the process; it is recorded as of the first."""
    def decorate(check):
        @functools.wraps(check)
        def test(self):
            for view in self.views:
                with harness.checking(self, view.label, self.checks.get(questions[0], questions[0])):
                    check(self, view, *map(view.document, questions))
        return test
    return decorate


@harness.for_each_interpreter
class Zoo(harness.TargetTest):
    interpreter = None
    checks = {"types": "objects", "tracked": "objects", "pymalloc": "blocks"}  # what the answers to a question are recorded as
    slack = 20  # how many more objects of a type may be alive than can be reached

    @classmethod
    def setUpClass(cls):
        cls.views = []
        # One version with all filters; of the others, the default.
        cls.kernel_filters = harness.KERNEL_FILTERS if cls.interpreter.minor == "3.11" else harness.KERNEL_FILTERS[:1]
        first = cls.start_python(cls.interpreter, "zoo.py", harness.KERNEL_FILTERS[0])
        truth = read_truth(first)
        cls.views.append(View("live", ["--pid", str(first.pid)], truth, first.mapped_bytes()))
        if harness.why_no_gcore():
            harness.skipped("gcore of the zoo", harness.why_no_gcore())
        else:
            core = first.gcore()
            cls.views.append(View("gcore", [core], truth, harness.elf.core_mapped_bytes(core)))
        if harness.why_no_kernel_core():
            harness.skipped("kernel cores of the zoo", harness.why_no_kernel_core())
            return
        cls.add_kernel_view(first, truth, cls.kernel_filters[0])
        cls.same_process = list(cls.views)
        for core_filter in cls.kernel_filters[1:]:
            target = cls.start_python(cls.interpreter, "zoo.py", core_filter)
            cls.add_kernel_view(target, read_truth(target), core_filter)

    @classmethod
    def add_kernel_view(cls, target, truth, core_filter):
        core = target.kernel_core()
        mapped_bytes = harness.elf.core_mapped_bytes(core)
        cls.views.append(View("kernel core, filter 0x%x" % core_filter, [core], truth, mapped_bytes))

    def assert_equal_tables(self, expected, actual, message=""):
        lines = harness.differences(expected, actual)
        if lines:
            self.fail(message + "\n  " + "\n  ".join(lines))

    def test_live_answers_are_complete(self):
        for name, answer in self.views[0].answers.items():
            with self.subTest(name):
                self.assertEqual(answer.status, 0, str(answer))

    @on_each_view("types")
    def test_target_is_described(self, view, document):
        target = document["target"]
        self.assertEqual(target["python"], self.interpreter.release)
        self.assertEqual(target["python_build"], self.interpreter.build)
        self.assertEqual(target["kind"], "pid" if view.label == "live" else "core")
        self.assertRegex(target["libc"], r"^glibc \d+\.\d+")

    @on_each_view("types")
    def test_user_types_exactly(self, view, document):
        table = harness.rows_by_type(document["types"])
        expected = {(u["module"], u["name"]): u["count"] for u in view.truth["user_types"]}
        actual = {key: count for key, (count, _) in table.items() if key in expected or key[0] == "__main__"}
        self.assert_equal_tables(expected, actual)

    @on_each_view("types")
    def test_user_types_bytes(self, view, document):
        reachable = harness.rows_by_type(view.truth["reachable"])
        names = {(u["module"], u["name"]) for u in view.truth["user_types"]}
        table = harness.rows_by_type(document["types"])
        expected = {name: reachable[name] for name in names}
        self.assert_equal_tables(expected, {name: table.get(name) for name in names}, "(count, bytes)")

    @on_each_view("tracked")
    def test_tracked_counts(self, view, document):
        expected = {k: v[0] for k, v in harness.rows_by_type(view.truth["tracked"]).items()}
        actual = {k: v[0] for k, v in harness.rows_by_type(document["types"]).items()}
        for key, added in measuring_adds(self.interpreter.version).items():
            expected[key] -= added
        self.assert_equal_tables(expected, actual)

    @on_each_view("tracked")
    def test_tracked_bytes(self, view, document):
        expected = harness.rows_by_type(view.truth["tracked"])
        actual = harness.rows_by_type(document["types"])
        for key in [k for k in expected if expected[k][0] != actual.get(k, (None,))[0]
                    or sizes_unknown(k, self.interpreter.version)]:
            del expected[key]  # test_tracked_counts says so
        self.assert_equal_tables(expected, {key: actual[key] for key in expected}, "(count, bytes)")

    @on_each_view("types")
    def test_untracked_objects_are_found(self, view, document):
        """Whatever can be reached is alive and must be counted; what else is alive is little."""
        reachable = harness.rows_by_type(view.truth["reachable"])
        table = harness.rows_by_type(document["types"])
        expected = {key: count for key, (count, _) in reachable.items()}
        actual = {key: count for key, (count, _) in table.items()}
        few = {key: actual.get(key) for key in expected if actual.get(key, 0) < expected[key]}
        if self.interpreter.version >= (3, 14):
            few = {key: count for key, count in few.items()
                   if key != ("builtins", "int") and expected[key] - (count or 0) > MEASURING_REACHES}
        self.assert_equal_tables({key: expected[key] for key in few}, few, "fewer than can be reached")
        many = {key: count for key, count in actual.items() if count > most_alive(key, expected, self.interpreter.version, self.slack)}
        self.assert_equal_tables({key: expected.get(key) for key in many}, many, "many more than can be reached")

    @on_each_view("types")
    def test_untracked_bytes(self, view, document):
        reachable = harness.rows_by_type(view.truth["reachable"])
        table = harness.rows_by_type(document["types"])
        same_count = [key for key in table if reachable.get(key, (None,))[0] == table[key][0]
                      and not sizes_unknown(key, self.interpreter.version)]
        self.assert_equal_tables({key: reachable[key] for key in same_count}, {key: table[key] for key in same_count},
                                 "(count, bytes)")

    @on_each_view("types", "tracked")
    def test_totals_add_up(self, _, *documents):
        for document in documents:
            for column in ("count", "bytes"):
                self.assertEqual(document["total"][column], sum(row[column] for row in document["types"]))

    @on_each_view("pymalloc")
    def test_pymalloc_exactly(self, view, document):
        if view.truth["pymalloc"] is None:
            self.skipTest("no counts")  # why was said when the zoo was started
        differences = harness.mimalloc_differences if self.interpreter.free_threaded else harness.pymalloc_differences
        errors = differences(view.truth["pymalloc"], document)
        self.assertEqual(errors, [], "\n  ".join([""] + errors))

    @on_each_view("malloc")
    def test_malloc_exactly(self, view, document):
        if "malloc" not in view.truth:
            self.skipTest("no malloc_info")
        errors = harness.malloc_differences(view.truth["malloc"], document)
        self.assertEqual(errors, [], "\n  ".join(errors))

    @on_each_view("verify")
    def test_nothing_contradicts_itself(self, view, document):
        self.assertTrue(document["consistent"], document["findings"][:3])

    @on_each_view("ledger")
    def test_ledger_adds_up(self, view, document):
        total = document["total"]["mapped_bytes"]
        self.assertEqual(total, sum(row["bytes"] for row in document["ledger"]))
        self.assertEqual(total, view.mapped_bytes)
        for row in document["ledger"]:
            self.assertLessEqual(row["not_dumped_bytes"], row["bytes"])

    def test_core_and_live_agree(self):
        live = self.views[0]
        for view in getattr(self, "same_process", self.views)[1:]:
            for name in ("types", "tracked", "pymalloc", "malloc"):
                with self.subTest("%s, %s" % (view.label, name)):
                    one, other = live.document(name), view.document(name)
                    for key in harness.COMMANDS[one["command"]]:
                        if key == "types":
                            self.assert_equal_tables(harness.rows_by_type(one[key]), harness.rows_by_type(other[key]))
                        elif key != "located_by":
                            self.assertEqual(*map(without_threads, (one[key], other[key])), key)


if __name__ == "__main__":
    harness.main()
