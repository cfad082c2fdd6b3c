"""The zoo under the Pythons of Debian's suites: newer and older ones than the machine's own, and debug builds (Py_DEBUG)."""

import debian_pythons
import harness
from test_zoo import Zoo


def suite_interpreters():
    for suite in debian_pythons.SUITES:
        root = debian_pythons.fetch(suite)
        if isinstance(root, str):
            harness.skipped("the Pythons of Debian's " + suite, root)
            continue
        for name, path in root.programs().items():
            if name.rstrip("d") in harness.SUPPORTED_PYTHONS:
                interpreter = harness.identify(path)
                interpreter.stripped = interpreter.build == "release"  # Debian's debug builds keep their symbols
                yield interpreter


class SuiteZoo(Zoo):
    """One class for each, made here."""


harness.make_test_classes(SuiteZoo, suite_interpreters())

if __name__ == "__main__":
    harness.main()
