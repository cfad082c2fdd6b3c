"""What every object refers to, against gc.get_referents() of the process itself (testdata/programs/references.py)."""

import collections
import os
import subprocess
import unittest

import harness

MOST_DIFFERENCES = 25
RUN_SECONDS = 300

# What only the private state of C modules holds: of its words, which are conservative, those that lead to objects of the
# collector's are followed. Up to so many strings, bytes and ints are visited there by some modules and not by others.
HELD_BY_MODULES = {("str", 8), ("bytes", 4), ("int", 4)}
# What runs has frames, which the program leaves out of its truth; to 3.10 they have dicts of locals.
RUNNING = {("frame", 4), ("dict", 12), ("code", 2), ("list", 2)}
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
            with harness.checking(self, label, "references"):
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
            with harness.checking(self, label, "references"):
                document = harness.check_contract(
                    harness.heapcore("types", *arguments, "--reachable", "--json", "--limit", "0"))
                actual = {int(row["address"], 16): row["count"] for row in document["types"]}
                lines = ["%s: expected %s, got %s" % (names.get(key, hex(key)), expected.get(key), actual.get(key))
                         for key in set(expected) | set(actual)
                         if abs(expected[key] - actual.get(key, 0)) > dict(HELD_BY_MODULES | RUNNING).get(names.get(key), 0)]
                self.assertEqual(sorted(lines)[:MOST_DIFFERENCES], [])

    def test_refs_of_one_object_of_each_type(self):
        """Outgoing as gc.get_referents() says; incoming as gc.get_referrers() would, by all of those."""
        sampled, referrers = {}, collections.defaultdict(collections.Counter)
        for address, (_, name, referents) in self.truth.items():
            if referents and name not in CONSERVATIVE_AT_BEST:
                sampled.setdefault(name, address)
        addresses = sorted(sampled.values())
        wanted = set(addresses)
        for address, (_, _, referents) in self.truth.items():
            for target in wanted.intersection(referents):
                referrers[target][address] += referents[target]
        for label, arguments, _ in self.views:
            with harness.checking(self, label, "references"):
                document = harness.check_contract(
                    harness.heapcore("refs", *arguments, "--json", "--limit", "0", *map(hex, addresses)))
                self.assertEqual([int(entry["address"], 16) for entry in document["addresses"]], addresses)
                wrong = []
                for entry in document["addresses"]:
                    address = int(entry["address"], 16)
                    self.assertEqual((len(entry["out"]), len(entry["in"])), (entry["out_count"], entry["in_count"]))
                    outgoing, conservative = targets(entry["out"], "visited"), targets(entry["out"], "conservative")
                    referents = self.truth[address][2]
                    if outgoing - referents or referents - outgoing - conservative:
                        wrong.append("out of %s" % entry)
                    # The frames that run, and what they hold, are not in the truth.
                    incoming = targets(entry["in"], "visited", among=self.truth)
                    possible = targets(entry["in"], "conservative", among=self.truth)
                    missing = referrers[address] - incoming - possible
                    if incoming - referrers[address] or set(missing) - self.by_c_code():
                        wrong.append("in of %s at %#x: missing %s, extra %s" % (
                            entry["type"], address, list(missing)[:3], list(incoming - referrers[address])[:3]))
                self.assertEqual(wrong[:MOST_DIFFERENCES], [], "%d of %d objects" % (len(wrong), len(addresses)))

    def by_c_code(self):
        return {address for address, (_, name, _) in self.truth.items() if name in CONSERVATIVE_AT_BEST}


def targets(references, kind, among=None):
    found = collections.Counter(int(r["address"], 16) for r in references if r["kind"] == kind)
    return found if among is None else collections.Counter({a: n for a, n in found.items() if a in among})


if __name__ == "__main__":
    harness.main()
