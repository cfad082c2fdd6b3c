"""The committed cores of testdata/malloc, one of each glibc, against what malloc said just before each was written.

They hold no libc file, and none is given: everything comes from the core. See test_glibcs.py for the same in the large.
"""

import glob
import json
import os
import tempfile
import unittest

import harness
import malloc_truth

CORES = sorted(glob.glob(os.path.join(harness.ROOT, "testdata", "malloc", "*.core.zst")))
MIXED_THREADS = 2


class MallocCores(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.nothing = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.nothing.cleanup)

    def heapcore(self, *argv):
        answer = harness.heapcore(*argv, "--sysroot", self.nothing.name, "--json")
        self.assertEqual(answer.status, 0, answer)
        return answer.document

    def check(self, core):
        with open(core.replace(".core.zst", ".truth.json")) as file:
            truth = json.load(file)
        info, malloc_info = truth["mallinfo"], truth["malloc_info"]
        malloc_info["mmapped"] = tuple(malloc_info["mmapped"])
        document = harness.check_contract(harness.heapcore("malloc", core, "--sysroot", self.nothing.name, "--json"))
        errors = harness.malloc_differences(malloc_info, document) + malloc_truth.mallinfo_differences(info, document)
        self.assertEqual(errors, [], "\n  ".join([""] + errors))
        self.assertEqual(document["warnings"], [])
        self.assertEqual([len(arena["threads"]) for arena in document["arenas"]], [1] * (1 + MIXED_THREADS))
        self.check_bins(core, malloc_info, document)
        self.check_sizes(core, document)
        for arena in document["arenas"]:
            self.check_chunks(core, arena)
        self.check_verify(core, document)

    def check_bins(self, core, malloc_info, document):
        """By bin, added up by kind: the same again, from another walk. malloc_info says how many of each kind there are."""
        rows = self.heapcore("malloc", core, "--bins")["bins"]
        for info, arena in zip(malloc_info["arenas"], document["arenas"]):
            own = [row for row in rows if row["arena"] == arena["address"]]
            for kind, total in arena["free"].items():
                of_kind = [row for row in own if row["kind"] == kind]
                self.assertEqual(sum(row["count"] for row in of_kind), total["count"], kind)
                self.assertEqual(sum(row["bytes"] for row in of_kind), total["bytes"], kind)
                self.assertEqual(sum(row["count"] for row in of_kind), info["free"].get(kind, (total["count"],))[0], kind)
                for row in of_kind:
                    self.assertLessEqual(row["size_from"] * row["count"], row["bytes"])
                    self.assertGreaterEqual(row["size_to"] * row["count"], row["bytes"])
                    if kind in ("tcache", "fast") and row["size_to"] <= 1040:
                        self.assertEqual((row["size_from"], row["size_to"]), (32 + 16 * row["bin"],) * 2)
                    if kind == "small":
                        self.assertEqual((row["size_from"], row["size_to"]), (16 * row["bin"],) * 2)
        # The threads put one to six chunks of 216 bytes and so on into their tcaches, the same in every release.
        self.assertTrue(any(row["kind"] == "tcache" for row in rows))

    def check_sizes(self, core, document):
        sizes = self.heapcore("malloc", core, "--sizes")
        in_use = [row for row in sizes["sizes"] if not row["mmapped"]]
        mmapped = [row for row in sizes["sizes"] if row["mmapped"]]
        expected = document["total"]["in_use"]
        self.assertEqual(sum(row["count"] for row in in_use), expected["count"])
        self.assertEqual(sum(row["bytes"] for row in in_use), expected["bytes"])
        self.assertEqual([(row["count"], row["bytes"]) for row in mmapped], [tuple(document["mmapped"].values())])

    def check_chunks(self, core, arena):
        answer = self.heapcore("malloc", core, "--chunks", arena["address"])
        chunks = answer["chunks"]
        self.assertEqual(len(chunks), answer["total"]["count"])
        by_state = {}
        for chunk in chunks:
            count, total = by_state.get(chunk["state"], (0, 0))
            by_state[chunk["state"]] = count + 1, total + chunk["bytes"]
        expected = {kind: (v["count"], v["bytes"]) for kind, v in arena["free"].items() if v["count"]}
        expected.update(in_use=tuple(arena["in_use"].values()), top=(1, arena["top_bytes"]))
        self.assertEqual(by_state, expected)
        text = harness.heapcore("malloc", core, "--sysroot", self.nothing.name, "--chunks", arena["address"]).stdout
        rows = [line.split() for line in text.splitlines()[1:]]
        self.assertEqual(rows, [[c["address"], str(c["bytes"]), c["state"]] for c in chunks])
        self.check_places(core, arena, chunks)

    def check_places(self, core, arena, chunks):
        """An address anywhere in a chunk is in that chunk, between those that come before and after in memory."""
        picked = [i for i in range(1, len(chunks) - 1) if i % 97 == 0][:20]
        addresses = ["0x%x" % (int(chunks[i]["address"], 16) + chunks[i]["bytes"] - 1 - i % 16) for i in picked]
        places = self.heapcore("malloc", core, *addresses)["places"]
        for i, place in zip(picked, places):
            self.assertEqual(place["arena"], arena["address"])
            for key, chunk in (("before", chunks[i - 1]), ("chunk", chunks[i]), ("after", chunks[i + 1])):
                if int(chunk["address"], 16) + chunk["bytes"] <= int(chunks[i]["address"], 16) or key != "before":
                    self.assertEqual((place[key] or {}).get("address", chunk["address"]), chunk["address"])
            self.assertEqual(place["chunk"]["bytes"], chunks[i]["bytes"])
            self.assertEqual(place["chunk"]["state"], chunks[i]["state"])
        nowhere, = self.heapcore("malloc", core, "0x10")["places"]
        self.assertEqual((nowhere["what"], nowhere["chunk"]), ("none", None))

    def check_verify(self, core, document):
        verified = self.heapcore("verify", core)
        self.assertTrue(verified["consistent"] and verified["whole"])
        self.assertEqual(verified["findings"], [])
        checked = {check["what"].partition(":")[0]: check["checked"] for check in verified["checks"]}
        total = document["total"]
        self.assertEqual(checked["arenas"], len(document["arenas"]))
        self.assertEqual(checked["chunks in small and large bins"],
                         total["free"]["small"]["count"] + total["free"]["large"]["count"])
        self.assertEqual(checked["mmapped chunks"], document["mmapped"]["count"])


for path in CORES:
    name = "test_" + os.path.basename(path).partition(".core")[0].replace(".", "_")
    setattr(MallocCores, name, lambda self, core=path: self.check(core))


class Questions(unittest.TestCase):
    """How the command line takes them."""

    def test_one_question_at_a_time(self):
        answer = harness.heapcore("malloc", CORES[0], "--bins", "--sizes")
        self.assertEqual(answer.status, 2)

    def test_not_an_address(self):
        self.assertEqual(harness.heapcore("malloc", CORES[0], "xyzzy").status, 2)
        self.assertEqual(harness.heapcore("malloc", CORES[0], "--chunks", "first").status, 2)

    def test_no_such_arena(self):
        answer = harness.heapcore("malloc", CORES[0], "--chunks", "0x1000")
        self.assertEqual(answer.status, 2)
        self.assertIn("0x1000", answer.stderr)


if __name__ == "__main__":
    harness.main()
