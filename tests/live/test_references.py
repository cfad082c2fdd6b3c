"""What every object refers to, against gc.get_referents() of the process itself (testdata/programs/references.py)."""

import collections
import os
import subprocess
import unittest

import harness

MOST_DIFFERENCES = 25
RUN_SECONDS = 300

# Not reached: what only the private state of C modules holds, whose words are conservative and so not followed; and
# what measuring itself made. Up to so many objects of a type, and this share of them.
NOT_FOLLOWED = 8
NOT_FOLLOWED_SHARE = 0.005
# What they visit is C code's own to know: a module's state, a capsule's traverse function (3.13+).
CONSERVATIVE_AT_BEST = {"PyCapsule", "module"}


def read_truth(path):
    """{address: (type's address, type's name, the referents' addresses as a multiset)}"""
    truth = {}
    with open(path, errors="replace") as file:
        for line in file:
            words = line.rstrip("\n").split(" ")
            end = len(words)
            while end > 3 and all(c in "0123456789abcdef" for c in words[end - 1]) and words[end - 1]:
                end -= 1
            referents = collections.Counter(int(word, 16) for word in words[end:])
            truth[int(words[0], 16)] = int(words[1], 16), " ".join(words[2:end]), referents
    return truth


def listed(target_argument, addresses):
    """What heapcore says: {address: {kind: multiset of targets}}, and the findings."""
    run = subprocess.run([os.environ["HEAPCORE_LIST_REFERENCES"], target_argument], encoding="utf-8", errors="replace",
                         input="".join("%#x\n" % address for address in addresses), stdout=subprocess.PIPE,
                         timeout=RUN_SECONDS, check=True)
    found, findings = collections.defaultdict(lambda: collections.defaultdict(collections.Counter)), []
    for line in run.stdout.splitlines():
        words = line.split(" ")
        if words[0] == "FINDING":
            findings.append(line)
        elif words[0].startswith("0x") and words[1] != "none":
            found[int(words[0], 16)][words[1]][int(words[2], 16)] += 1
    return found, findings


@harness.for_each_interpreter
class References(harness.TargetTest):
    interpreter = None

    @classmethod
    def setUpClass(cls):
        if cls.interpreter.version < (3,):
            harness.skipped("references of %s" % cls.interpreter, "the program's shapes are written in Python 3")
            raise unittest.SkipTest("the program's shapes are written in Python 3")
        target = cls.start_python(cls.interpreter, "references.py")
        cls.truth = read_truth(os.path.join(target.directory, "referents.txt"))
        cls.views = [("live", ["--pid", str(target.pid)], str(target.pid))]
        if harness.why_no_gcore():
            harness.skipped("gcore of the references", harness.why_no_gcore())
        else:
            core = target.gcore()
            cls.views.append(("gcore", [core], core))

    def test_visited_references_exactly(self):
        for label, _, argument in self.views:
            with self.subTest(label):
                found, findings = listed(argument, self.truth)
                wrong = []
                for address, (_, name, referents) in self.truth.items():
                    visited = found[address]["visited"]
                    # A module's state is C code's own: its words are said to be conservative.
                    missing, extra = referents - visited, visited - referents
                    if name in CONSERVATIVE_AT_BEST:
                        missing = collections.Counter()
                    if extra or missing - found[address]["conservative"]:
                        wrong.append("%s at %#x: missing %s, extra %s" % (
                            name, address, [hex(a) for a in missing][:4], [hex(a) for a in extra][:4]))
                self.assertEqual(findings, [])
                self.assertEqual(wrong[:MOST_DIFFERENCES], [], "%d of %d objects" % (len(wrong), len(self.truth)))

    def test_reachable_counts(self):
        expected = collections.Counter(type_address for type_address, _, _ in self.truth.values())
        names = {type_address: name for type_address, name, _ in self.truth.values()}
        for label, arguments, _ in self.views:
            with self.subTest(label):
                document = harness.check_contract(
                    harness.heapcore("types", *arguments, "--reachable", "--json", "--limit", "0"))
                actual = {int(row["address"], 16): row["count"] for row in document["types"]}
                lines = ["%s: expected %s, got %s" % (names.get(key, hex(key)), expected.get(key), actual.get(key))
                         for key in set(expected) | set(actual) if abs(expected[key] - actual.get(key, 0)) > NOT_FOLLOWED + NOT_FOLLOWED_SHARE * expected[key]]
                self.assertEqual(sorted(lines)[:MOST_DIFFERENCES], [])


if __name__ == "__main__":
    harness.main()
