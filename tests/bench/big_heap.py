"""A large CPython heap for the bench: integers, strings, dicts, instances, lists, and holes.

    python big_heap.py --gb 1

Grows until it is that large in resident memory, holes included, writes "R" to standard output and sleeps.
"""

import argparse
import gc
import os
import signal


class Record:
    def __init__(self, i):
        self.key = i
        self.name = "record %d" % i
        self.values = [i, i + 1, i + 2]


class Slotted:
    __slots__ = ("left", "right", "weight")

    def __init__(self, left, right, weight):
        self.left = left
        self.right = right
        self.weight = weight


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def batch(first):
    """About 10 MB of everything."""
    numbers = range(first, first + 10000)
    return [
        [i * 1000003 for i in numbers],
        [i / 7 for i in numbers],
        ["the string of number %d" % i for i in numbers],
        [{"id": i, "tag": "t%d" % (i % 1000), "next": None} for i in range(first, first + 4000)],
        [Record(i) for i in numbers],
        [Slotted(None, i, 0.5) for i in numbers],
        [(i, str(i)) for i in numbers],
        [bytes(600 + i % 3000) for i in range(first, first + 500)],
        {i: i + 1 for i in range(first, first + 5000)},
    ]


def punch_holes(batches, state):
    """Frees random parts; deterministic, so that two runs make the same heap."""
    for lists in batches:
        for items in lists:
            if isinstance(items, list):
                kept = []
                for item in items:
                    state = (state * 1103515245 + 12345) % (1 << 31)
                    if state >> 16 & 3:
                        kept.append(item)
                items[:] = kept
    return state


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gb", type=float, default=1.0, help="resident size to reach (default 1)")
    goal = int(parser.parse_args().gb * (1 << 30))
    gc.disable()
    batches, first, state = [], 0, 20231105
    while resident_bytes() < goal:
        batches.append(batch(first))
        first += 10000
        if len(batches) % 10 == 0:  # later batches fill some of these holes again
            state = punch_holes(batches[-10:], state)
    os.write(1, b"R")
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
