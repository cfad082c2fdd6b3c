"""Objects are freed, and their blocks are given out again as buffers of numbers that do not fill them.

    python reused_blocks.py DIRECTORY

writes into DIRECTORY, before it sleeps,
    alive.json  {type's name: how many there are} of what gc.get_objects() returns, and of floats what this program keeps
"""

import array
import gc
import itertools
import json
import os
import signal
import sys

import truth

COUNTED = ("Node", "list", "tuple", "array")
KEPT = []


class Node(object):
    def __init__(self, i):
        self.i = i


def main():
    directory = sys.argv[1]
    gc.disable()
    n = 5000
    made = [[i * 1.5 for i in range(n)], [Node(i) for i in range(n)], [[i] for i in range(n)], [(i, i, i) for i in range(n)]]
    del made
    for length in range(1, 8):
        for i in range(1000):
            numbers = array.array("l")
            for j in range(length):
                numbers.append(1000 + 8 * j + 8 * i)
            KEPT.append(numbers)
        KEPT.extend(itertools.combinations(range(10), length) for _ in range(500))
        KEPT.extend(bytearray(b"a" * length) for _ in range(500))
    del numbers
    for _ in range(3):  # what writing itself leaves behind is there the next time
        counts = dict.fromkeys(COUNTED, 0)
        for item in gc.get_objects():
            name = type(item).__name__
            if name in counts:
                counts[name] += 1
        item = None
        with open(os.path.join(directory, "alive.json"), "w") as file:
            json.dump(counts, file)
    truth.say_and_sleep(signal.pause)


if __name__ == "__main__":
    main()
