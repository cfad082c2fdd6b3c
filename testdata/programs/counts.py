"""Reference counts, right and wrong.

    python counts.py DIRECTORY [N]

uses a good deal of the library, with threads and tasks that still wait; or with N raises the counts of N objects without
holding them, as C code with a bug does: a third of those are held by nothing at all then. Writes DIRECTORY/raised.json,
{"held": [addresses], "lost": [addresses], "numpy": its version or null}, and waits.
"""

import collections
import ctypes
import functools
import gc
import io
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time

try:
    import asyncio
except ImportError:
    asyncio = None
try:
    import sqlite3
except ImportError:
    sqlite3 = None

from site_numpy import numpy

KEPT = []
READY = []


class Thing(object):
    def __init__(self, number):
        self.number = number


def use_json():
    for i in range(200):
        KEPT.append(json.loads(json.dumps({"row": i, "values": [i, str(i), i / 3.0, None, {"a": [True]}]})))


def use_sqlite():
    base = sqlite3.connect(":memory:")
    base.row_factory = sqlite3.Row
    base.create_function("twice", 1, lambda x: 2 * x)
    base.execute("create table rows (a integer, b text, c blob)")
    base.executemany("insert into rows values (?, ?, ?)", [(i, "text %d" % i, b"blob") for i in range(500)])
    KEPT.append((base, base.execute("select *, twice(a) from rows").fetchall(), base.cursor()))


def use_numpy():
    KEPT.append([numpy.arange(1000).reshape(10, 100)[::2], numpy.array([Thing(1), "x"], dtype=object),
                 numpy.zeros(3, dtype=[("a", "i4"), ("b", "O")])])
    records = numpy.zeros(50, dtype=[("n", "i4"), ("object", "O")])
    records["object"] = [Thing(i) for i in range(50)]
    random = numpy.random.default_rng(1)
    KEPT.append([records, records[::3], numpy.linalg.inv(random.normal(size=(5, 5))), random, str(numpy.arange(3)),
                 numpy.ma.masked_less(numpy.arange(5), 3), numpy.frompyfunc(lambda a, b: (a, b), 2, 1), numpy.nditer(records["n"])])


def use_library():
    pattern = re.compile("([a-z]+) ([0-9]+)")
    KEPT.append([pattern.match("abc %d" % i).groups() for i in range(100)] + [pattern.finditer("a 1 b 2")])
    KEPT.append([io.BytesIO(b"abc" * 100), tempfile.gettempdir(), collections.Counter("abracadabra")])
    KEPT.append(functools.reduce(lambda a, b: (a, b), range(50)))
    KEPT.append({frozenset([i]): (i, {i: [i]}) for i in range(200)})


def wait_in_thread():
    rows = [Thing(i) for i in range(10)]
    READY.append(1)
    time.sleep(10000)
    del rows


async_source = """
async def work(number):
    rows = [Thing(i) for i in range(number)]
    await asyncio.sleep(10000 if number else 0)
    del rows

async def main():
    tasks = [asyncio.ensure_future(work(i)) for i in range(20)]
    await asyncio.sleep(0.1)
    READY.append(1)
    await asyncio.wait(tasks)
"""


def run_tasks():
    names = {"Thing": Thing, "READY": READY, "asyncio": asyncio}
    exec(compile(async_source, "<async>", "exec"), names)
    asyncio.new_event_loop().run_until_complete(names["main"]())


def raise_counts(n):
    increment = ctypes.pythonapi.Py_IncRef
    increment.argtypes = [ctypes.py_object]
    increment.restype = None
    held, lost = [], []
    for i in range(n):
        thing = [Thing(i), {"number": i}, (i, [i]), "text %d" % i, 1.5 * i][i % 5]
        increment(thing)
        if i % 3 == 0:
            lost.append(id(thing))
        else:
            KEPT.append(thing)
            held.append(id(thing))
    return {"held": held, "lost": lost}


def use_much():
    use_json()
    use_library()
    if sqlite3 is not None:
        use_sqlite()
    if numpy is not None:
        use_numpy()
    waiting = [wait_in_thread, wait_in_thread] + [run_tasks] * (asyncio is not None)
    for target in waiting:
        thread = threading.Thread(target=target)
        thread.daemon = True
        thread.start()
    while len(READY) < len(waiting):
        time.sleep(0.01)


def write_truth(raised):
    raised["numpy"] = numpy and numpy.__version__
    with open(os.path.join(sys.argv[1], "raised.json"), "w") as file:
        json.dump(raised, file)


def wait(_):  # in a frame with little room, where nothing of what was before may be left
    os.write(1, b"r")
    signal.pause()


def main():
    raised = {}
    if sys.argv[2:]:
        raised = raise_counts(int(sys.argv[2]))
    else:
        use_much()
    gc.collect()
    write_truth(raised)


if __name__ == "__main__":
    main()
    wait(None)
