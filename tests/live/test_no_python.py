"""A process with no Python in it is a normal case: malloc answers, and the Python part says that there is none."""

import unittest

import harness


class NoPython(harness.TargetTest, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        target = cls.start(["sleep", "1000"], 0x33)
        target.wait_asleep()
        cls.views, cls.answers = [], {}
        cls.look("live", ["--pid", str(target.pid)], target.mapped_bytes())
        for label, why_not, take in (("gcore", harness.why_no_gcore(), target.gcore),
                                     ("kernel core", harness.why_no_kernel_core(), target.kernel_core)):
            if why_not:
                harness.skipped(label + " of sleep", why_not)
                continue
            core = take()
            cls.look(label, [core], harness.elf.core_mapped_bytes(core))

    @classmethod
    def look(cls, label, where, mapped_bytes):
        cls.views.append((label, mapped_bytes))
        for command in harness.COMMANDS:
            cls.answers[label, command] = harness.heapcore(command, *where, "--json")

    def test_malloc_answers(self):
        for label, _ in self.views:
            with self.subTest(label):
                document = harness.check_contract(self.answers[label, "malloc"])
                self.assertIsNone(document["target"]["python"])
                self.assertEqual([arena["main"] for arena in document["arenas"]], [True])
                self.assertGreater(document["arenas"][0]["in_use"]["count"], 0)
                live = harness.check_contract(self.answers["live", "malloc"])
                for key in ("arenas", "mmapped", "total", "trim"):
                    self.assertEqual(document[key], live[key])

    def test_ledger_adds_up(self):
        for label, mapped_bytes in self.views:
            with self.subTest(label):
                document = harness.check_contract(self.answers[label, "ledger"])
                self.assertEqual(document["total"]["mapped_bytes"], mapped_bytes)
                self.assertEqual(sum(row["bytes"] for row in document["ledger"]), mapped_bytes)

    def test_python_commands_say_there_is_none(self):
        for label, _ in self.views:
            for command in ("types", "pymalloc", "report"):
                with self.subTest(label + ", " + command):
                    answer = self.answers[label, command]
                    self.assertIn(answer.status, (0, 1), str(answer))
                    self.assertIsNone(answer.document["target"]["python"])
                    self.assertEqual(answer.document.get("types", []) or [], [])


if __name__ == "__main__":
    harness.main()
