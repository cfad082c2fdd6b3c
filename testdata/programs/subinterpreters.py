"""Two sub-interpreters with objects of their own: from 3.12 on each with an allocator of its own.

Each says what it holds in truth-0.json and truth-1.json in the folder that is the first argument, as rows of
{"module", "name", "count", "bytes"}; then the program says "ready" and sleeps.
"""

import os
import signal
import sys

try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

CODE = """
import gc, sys

class Plain:
    pass

class Slotted:
    __slots__ = ("a", "b")

class Text(str):
    __slots__ = ()

class Holder(list):
    pass

gc.collect()
gc.disable()
number = %(number)d
kept = [[Plain() for _ in range(3000 + number)], [Slotted() for _ in range(70000 + number)],
        [Text("text %%d" %% i) for i in range(2000 + number)], [Holder(range(i %% 50)) for i in range(1000 + number)]]
for i, item in enumerate(kept[0]):
    item.value = i / 3
rows = ['{"module": "__main__", "name": "%%s", "count": %%d, "bytes": %%d}'
        %% (type(items[0]).__name__, len(items), sum(map(sys.getsizeof, items))) for items in kept]
with open(%(path)r, "w") as file:
    file.write("[" + ", ".join(rows) + "]")
del rows, item, i, file
"""


def main():
    made = []
    for number in range(2):
        made.append(interpreters.create())
        failed = interpreters.run_string(made[-1], CODE % {
            "number": number, "path": os.path.join(sys.argv[1], "truth-%d.json" % number)})
        if failed:
            sys.exit("a sub-interpreter failed: %s" % failed)
    os.write(1, b"R")
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
