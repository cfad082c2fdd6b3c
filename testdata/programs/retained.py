"""Objects that an interpreter drops on demand, and what it then frees.

    python retained.py DIRECTORY

writes DIRECTORY/addresses.json, {name: the address of an object that nothing but a dict holds}, and says "ready". After
SIGUSR1 it drops them one by one, and after each it writes to standard error a line "=== NAME", the figures of
sys._debugmallocstats(), and a line "mallinfo UORDBLKS HBLKHD"; first all that under the name "start". Then it writes
DIRECTORY/done.
"""

import array
import collections
import ctypes
import functools
import gc
import io
import json
import os
import signal
import sys

HELD = {}
KEPT = []


class Node:
    def __init__(self, i):
        self.number = 1000003 * i
        self.label = "node-%d" % i
        self.values = [float(i), i + 0.5]
        self.more = {"key": "value-%d" % i}


class Slotted:
    __slots__ = ("a", "b", "__weakref__")

    def __init__(self, i):
        self.a = "slot-%d" % i
        self.b = (i * 100003, str(i) * 9)


class Ring:
    def __init__(self, other, size):
        self.other = other
        self.payload = bytearray(size)


def make_ring(count):
    first = last = Ring(None, 5000)
    for i in range(count):
        last = Ring(last, 900 + i)
    first.other = last
    return first


def make_closure(n):
    table = {i: str(i) * 20 for i in range(n)}
    counter = [0]

    def call():
        counter[0] += 1
        return table[counter[0]]
    return call


def generate(n):
    rows = ["row %d" % i for i in range(n)]
    yield None
    for row in rows:
        yield row


def make_generator(n):
    generator = generate(n)
    next(generator)
    return generator


def make_exception(n):
    def fail(depth, data):
        if depth == 0:
            raise ValueError("made on purpose", data)
        fail(depth - 1, data)
    try:
        fail(5, ["datum %d" % i for i in range(n)])
    except ValueError as error:
        return error


def make_class(n):
    class Local(object):
        table = {"entry %d" % i: i * 1.5 for i in range(n)}

        def method(self, x):
            return self.table[x]
    Local.instance = Local()
    return Local


def make_cache(n):
    @functools.lru_cache(maxsize=None)
    def cached(i):
        return "cached %d" % i
    for i in range(n):
        cached(i)
    return cached


def make_file(n):
    file = io.BytesIO()
    file.write(b"x" * n)
    return file


def make_objects():
    HELD["nodes"] = [Node(i) for i in range(300)]
    HELD["node"] = Node(7)
    HELD["slotted"] = [Slotted(i) for i in range(200)]
    HELD["ring"] = make_ring(40)
    HELD["bytearrays"] = [bytearray(500 + 200 * i) for i in range(30)]
    HELD["big bytes"] = [b"b" * 3000, b"c" * 300000]
    HELD["big str"] = ["s" * 5000, "\u20ac" * 5000, "t" * 400000]
    HELD["array"] = array.array("d", range(2000))
    HELD["ints"] = {i: 10 ** (i + 20) for i in range(400)}
    HELD["floats"] = [i * 0.5 for i in range(1500)]
    HELD["tuples"] = tuple((str(i), (i * 1.25,)) for i in range(300))
    HELD["set"] = {"member %d" % i for i in range(500)}
    HELD["frozenset"] = frozenset("frozen %d" % i for i in range(500))
    HELD["deque"] = collections.deque("item %d" % i for i in range(1000))
    HELD["ordered"] = collections.OrderedDict(("key %d" % i, str(i)) for i in range(200))
    HELD["defaultdict"] = collections.defaultdict(list, {i: [str(i)] for i in range(100)})
    HELD["closure"] = make_closure(200)
    HELD["generator"] = make_generator(300)
    HELD["exception"] = make_exception(100)
    HELD["class"] = make_class(50)
    HELD["cache"] = make_cache(150)
    HELD["partial"] = functools.partial(make_ring, ["argument %d" % i for i in range(100)])
    HELD["iterator"] = iter([str(i) * 3 for i in range(400)])
    HELD["bound"] = Node(8).__init__
    HELD["memory"] = memoryview(bytearray(20000))
    HELD["file"] = make_file(10000)
    # Of this only the outer part goes: its items are held elsewhere, too.
    KEPT.extend("kept %d" % i for i in range(300))
    HELD["shared"] = [list(KEPT), {text: None for text in KEPT}]


def fill_free_lists():
    """Of what an interpreter keeps for the next time, and does not free when it collects: the blocks of deques, and to
    3.10 a frame of each generator. What was made before, and is dropped later, finds no room there."""
    collections.deque(range(10000))
    make_generator(1)


libc = ctypes.CDLL(None)
mallinfo = getattr(libc, "mallinfo2", libc.mallinfo)  # glibc 2.33+


class MallInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t if hasattr(libc, "mallinfo2") else ctypes.c_int) for name in
                ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keep")]


mallinfo.restype = MallInfo


def measure(name, info=[]):
    gc.collect()
    info[:] = [mallinfo()]
    os.write(2, ("\n=== %s\n" % name).encode())
    sys._debugmallocstats()
    sys._debugmallocstats()  # twice, so that the reader can tell that measuring changes nothing
    os.write(2, ("\nmallinfo %d %d\n" % (info[0].uordblks, info[0].hblkhd)).encode())
    del info[:]


def main():
    directory = sys.argv[1]
    make_objects()
    fill_free_lists()
    with open(os.path.join(directory, "addresses.json"), "w") as file:
        json.dump({name: id(held) for name, held in HELD.items()}, file)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    names = list(HELD)
    for _ in range(5):  # caches get warm
        measure("warm")
    os.write(1, b"r")
    signal.sigwait([signal.SIGUSR1])
    for _ in range(3):
        measure("start")
    for name in names:
        del HELD[name]
        measure(name)
    with open(os.path.join(directory, "done"), "w"):
        pass
    signal.pause()


if __name__ == "__main__":
    main()
