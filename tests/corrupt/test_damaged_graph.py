"""The commands that follow references, on the sample core damaged as in test_damaged_heap.py: pointers to the middle of
objects, huge lengths, chains that bite themselves. Each must end soon, within limits, with a status that means
something."""

import unittest

import test_damaged_heap


class DamagedGraph(test_damaged_heap.DamagedHeap):
    commands = (("retained",), ("cycles",), ("audit",), ("paths", "*"), ("threads",), ("map",), ("pins",), ("waste",))


def load_tests(loader, _, __):
    return loader.loadTestsFromTestCase(DamagedGraph)  # and not those it descends from


if __name__ == "__main__":
    unittest.main(verbosity=2)
