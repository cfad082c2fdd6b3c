"""script/support-matrix on records made up here."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = os.path.join(ROOT, "script", "support-matrix")
BEGIN, END = "<!-- support matrix: begin -->\n", "<!-- support matrix: end -->\n"


def line(python, view, check, outcome="passed", **more):
    return dict({"python": python, "build": "release", "origin": "installed", "linkage": "static", "stripped": True, "under": "",
                 "view": view, "check": check, "test": "test_" + check, "outcome": outcome}, **more)


class SupportMatrix(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.readme, self.record = os.path.join(folder.name, "README.md"), os.path.join(folder.name, "tested.jsonl")
        self.write("before\n" + BEGIN + END + "after\n")

    def write(self, readme):
        with open(self.readme, "w") as file:
            file.write(readme)

    def run_script(self, lines, *options):
        with open(self.record, "w") as file:
            file.writelines(json.dumps(each) + "\n" for each in lines)
        return subprocess.run([sys.executable, SCRIPT, *options, "--readme", self.readme, self.record], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)

    def generate(self, *lines):
        """The rows of the README, by name: {column: cell}."""
        run = self.run_script(lines)
        self.assertEqual(run.returncode, 0, run.stderr)
        rows, head = {}, []
        with open(self.readme) as file:
            self.text = file.read()
        for text in self.text.splitlines():
            cells = [cell.strip() for cell in text.strip("|").split("|")]
            if cells[0] in ("CPython", "under"):
                head = cells
            elif text.startswith("|") and cells[0] != "---":
                rows[cells[0]] = dict(zip(head, cells))
        return rows

    def check(self, *lines):
        return self.run_script(lines, "--check")

    def test_what_passed_is_claimed(self):
        rows = self.generate(line("3.11.2", "live", "values"), line("3.11.2", "live", "objects"), line("3.11.2", "gcore", "blocks"),
                             line("3.11.2", "kernel core, filter 0x33", "objects"), line("3.11.2", "gcore alone", "objects"))
        self.assertEqual(rows, {"3.11.2": {"CPython": "3.11.2", "program": "static, stripped", "live": "O V", "gcore": "B",
                                           "kernel core": "O", "core alone": "O", "committed core": ""}})
        self.assertTrue(self.text.startswith("before\n") and self.text.endswith("after\n"))

    def test_what_failed_or_was_skipped_is_not(self):
        rows = self.generate(line("3.11.2", "live", "objects"), line("3.11.2", "live", "objects", "failed"),
                             line("3.11.2", "live", "values"), line("3.11.2", "live", "blocks", "skipped"))
        self.assertEqual(rows["3.11.2"]["live"], "V")

    def test_rows_say_which_build_and_where_from(self):
        rows = self.generate(line("3.9.2", "live", "objects", build="debug", origin="unpacked", stripped=False),
                             line("3.13.5", "committed core", "objects", origin="committed", linkage=None, stripped=None),
                             line("3.9.18", "live", "objects", linkage="shared"))
        self.assertEqual({name: row["program"] for name, row in rows.items()},
                         {"3.9.2 debug": "static (unpacked)", "3.9.18": "shared, stripped", "3.13.5": ""})
        self.assertEqual(list(rows), ["3.9.2 debug", "3.9.18", "3.13.5"])
        self.assertEqual((rows["3.13.5"]["live"], rows["3.13.5"]["committed core"]), ("", "O"))

    def test_a_condition_is_claimed_of_all_or_none(self):
        debug = {"under": "PYTHONMALLOC=debug"}
        rows = self.generate(line("3.6.15", "live", "objects", **debug), line("3.13.0", "live", "objects", **debug),
                             line("3.6.15", "live", "blocks", **debug), line("3.13.0", "live", "blocks", "skipped", **debug))
        self.assertEqual(rows, {"PYTHONMALLOC=debug": {"under": "PYTHONMALLOC=debug", "with": "3.6.15, 3.13.0", "live": "O"}})

    def test_checking_what_was_generated(self):
        lines = [line("3.11.2", "live", "objects"), line("3.11.2", "live", "blocks", under="several interpreters"),
                 line("3.9.2", "gcore", "objects")]
        self.generate(*lines)
        run = self.check(*lines)
        self.assertEqual((run.returncode, run.stdout.count("3 of 3 cells")), (0, 1), run.stdout)

    def test_a_claim_that_a_test_contradicts(self):
        self.generate(line("3.11.2", "live", "objects"), line("3.11.2", "live", "values"))
        for lines in ([line("3.11.2", "live", "objects", "failed"), line("3.11.2", "live", "values")],
                      [line("3.11.2", "live", "values")]):
            run = self.check(*lines)
            self.assertEqual(run.returncode, 1)
            self.assertIn("3.11.2, live: the README claims O", run.stderr)
            self.assertNotIn("claims V", run.stderr)

    def test_what_could_not_be_tested_contradicts_nothing(self):
        self.generate(line("3.11.2", "live", "objects"), line("3.11.2", "live", "blocks"), line("3.9.2", "live", "objects"))
        run = self.check(line("3.11.2", "live", "objects"), line("3.11.2", "live", "blocks", "skipped"))
        self.assertEqual((run.returncode, run.stdout.count("1 of 2 cells")), (0, 1), run.stderr)

    def test_what_a_test_unpacks_for_itself_another_need_not_look_at(self):
        self.generate(line("3.15.2", "live", "objects"), line("3.15.2", "live", "values"))
        unpacked = line("3.15.2", "live", "objects", origin="unpacked")
        self.assertEqual(self.check(unpacked).returncode, 0)
        run = self.check(unpacked, line("3.15.2", "live", "values", "failed", origin="unpacked"))
        self.assertEqual(run.returncode, 1)
        self.assertIn("3.15.2, live: the README claims V", run.stderr)

    def test_a_readme_without_marks(self):
        self.write("nothing\n")
        run = self.check(line("3.11.2", "live", "objects"))
        self.assertEqual((run.returncode, "has no marks" in run.stderr), (1, True))

    def test_the_readme_has_marks_and_claims(self):
        self.readme = os.path.join(ROOT, "README.md")
        run = self.check(line("0.0.0", "live", "objects"))
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertNotIn("of 0 cells", run.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
