"""Objects that come and go: many of the new ones lie where others of their class lay.

    python comings.py FILE

Says "ready" with some objects of each class; after SIGUSR1 it has dropped some, kept some and made others, writes to FILE
how many of each by what it knows itself, and says "ready" again.
"""

import json
import os
import signal
import sys
import time


class Kept(object):
    def __init__(self, number):
        self.number = number
        self.text = "kept %d" % number


class Turnover(object):
    def __init__(self, number):
        self.number = "number %d" % number
        self.payload = [str(number)]


class Slotted(object):
    __slots__ = ("name", "more")

    def __init__(self, number):
        self.name = "slotted %d" % number
        self.more = (number, self.name)


CLASSES = (Kept, Turnover, Slotted)
FIRST = {Kept: 500, Turnover: 800, Slotted: 600}
DROPPED = {Kept: 0, Turnover: 800, Slotted: 200}  # the last ones
MADE = {Kept: 100, Turnover: 900, Slotted: 300}

held = {}
waited = []


def wait():
    del waited[:]
    os.write(1, b".")
    while not waited:
        time.sleep(0.02)


def main():
    signal.signal(signal.SIGUSR1, lambda *_: waited.append(True))
    for cls in CLASSES:
        held[cls] = [cls(number) for number in range(FIRST[cls])]
    wait()
    truth, reused = {}, 0
    for cls in CLASSES:
        before = set(map(id, held[cls][len(held[cls]) - DROPPED[cls]:]))
        del held[cls][len(held[cls]) - DROPPED[cls]:]
        made = [cls(number) for number in range(100000, 100000 + MADE[cls])]
        reused += len(before.intersection(map(id, made)))
        held[cls] += made
        truth["__main__." + cls.__name__] = {"older": FIRST[cls], "newer": FIRST[cls] - DROPPED[cls] + MADE[cls],
                                             "new": MADE[cls], "gone": DROPPED[cls], "survived": FIRST[cls] - DROPPED[cls]}
    with open(sys.argv[1] + ".partial", "w") as file:
        json.dump({"types": truth, "reused": reused}, file)
    os.rename(sys.argv[1] + ".partial", sys.argv[1])
    wait()


if __name__ == "__main__":
    main()
