"""A process with no Python in it is a normal case: malloc answers, and the Python part says that there is none."""

import unittest

import harness


class NoPython(harness.TargetTest, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        target = cls.start(["sleep", "1000"], 0x33)
        target.wait_asleep()
        cls.views = [("live", ["--pid", str(target.pid)], target.mapped_bytes())]
        for why_not, take, label in ((harness.why_no_gcore, target.gcore, "gcore"),
                                     (harness.why_no_kernel_core, target.kernel_core, "kernel core")):
            if why_not():
                harness.skipped(label + " of sleep", why_not())
                continue
            core = take()
            cls.views.append((label, [core], harness.elf.core_mapped_bytes(core)))
        cls.answers = {(label, command): harness.heapcore(command, *where, "--json")
                       for label, where, _ in cls.views for command in harness.COMMANDS}

    def test_malloc_answers(self):
        for label, _, _ in self.views:
            with self.subTest(label):
                document = harness.check_contract(self.answers[label, "malloc"])
                self.assertIsNone(document["target"]["python"])
                self.assertEqual([arena["main"] for arena in document["arenas"]], [True])
                self.assertGreater(document["arenas"][0]["in_use"]["count"], 0)
                self.assertEqual(document, {**harness.check_contract(self.answers["live", "malloc"]),
                                            "target": document["target"], "warnings": document["warnings"],
                                            **({"located_by": document["located_by"]})})

    def test_ledger_adds_up(self):
        for label, _, mapped_bytes in self.views:
            with self.subTest(label):
                document = harness.check_contract(self.answers[label, "ledger"])
                self.assertEqual(document["total"]["mapped_bytes"], mapped_bytes)
                self.assertEqual(sum(row["bytes"] for row in document["ledger"]), mapped_bytes)

    def test_python_commands_say_there_is_none(self):
        for label, _, _ in self.views:
            for command in ("types", "pymalloc", "report"):
                with self.subTest(label + ", " + command):
                    answer = self.answers[label, command]
                    self.assertIn(answer.status, (0, 1), str(answer))
                    self.assertIsNone(answer.document["target"]["python"])
                    self.assertEqual(answer.document.get("types", []) or [], [])


if __name__ == "__main__":
    harness.main()
