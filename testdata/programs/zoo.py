"""A zoo of objects, made in known numbers, and what the interpreter itself says of them.

    python zoo.py DIRECTORY [--scale N]

writes into DIRECTORY
    truth.json       user_types: instances of every class defined here, known by construction;
                     tracked: gc.get_objects() by type, count and sum of sys.getsizeof;
                     reachable: the closure of gc.get_referents over those, by type; not the binaries' own data
    samples.json     one object of each kind by address, and its value: see samples.py
    malloc_info.xml  glibc's malloc_info(), twice
and to standard error sys._debugmallocstats(), twice; then one byte to standard output, and then it sleeps in pause().

truth.py says why all this is still true of the sleeping process.

This file is what CPython 2.7 and 3 have in common; what only one of them has or can parse is in zoo_py2.py and
zoo_py3.py.
"""

import array
import collections
import datetime
import decimal
import functools
import gc
import io
import itertools
import operator
import os
import re
import signal
import struct
import sys
import time
import types
import weakref

import samples
import truth

if sys.version_info >= (3,):
    import zoo_py3 as dialect
else:
    import zoo_py2 as dialect
try:
    import ctypes
except ImportError:  # a minimal installation
    ctypes = None

__metaclass__ = type  # for 2.7, where a class is of the old style otherwise

COUNTS = {}  # class -> how many instances of exactly this class live
KEEP = {}    # name -> what keeps them alive


def made(cls, count):
    COUNTS[cls] = COUNTS.get(cls, 0) + count


def keep(cls, make, count):
    KEEP[cls.__name__] = [make(i) for i in range(count)]
    made(cls, count)


# ---- classes ---------------------------------------------------------------------------------------------------------

class Plain:
    def __init__(self, i):
        self.number = i + 1000000
        self.text = "plain %d" % i


class Materialised(Plain):
    """Its __dict__ has been asked for."""


class Crowded:
    """More attributes than shared keys hold."""

    def __init__(self, i):
        for k in range(40):
            setattr(self, "attribute_%d" % k, k + i)


class Slotted:
    __slots__ = ("a", "b", "__weakref__")

    def __init__(self, i):
        self.a = i
        self.b = (i,)


class Bare:
    __slots__ = ()


class SlotsAndDict(Slotted):
    def __init__(self, i):
        super(SlotsAndDict, self).__init__(i)
        self.extra = [i]


class TypeHolder:
    """Its first attribute is a type: in memory, the values of such an instance look like an object of that type."""

    def __init__(self, i):
        self.first = (Bare, Plain, PlainInt, Slotted)[i % 4]
        self.second = i


class IntChild(int):
    pass


class PlainInt(type(1 << 100)):
    """In 2.7, of long."""
    __slots__ = ()


class PlainFloat(float):
    __slots__ = ()


class PlainStr(str):
    __slots__ = ()


class PlainBytes(bytes):
    __slots__ = ()


class StrChild(str):
    pass


class ListChild(list):
    pass


class SlottedList(list):
    __slots__ = ("owner",)


class DictChild(dict):
    pass


class TupleChild(tuple):
    pass


class PlainTuple(tuple):
    __slots__ = ()


class SetChild(set):
    pass


class FrozenSetChild(frozenset):
    pass


class ByteArrayChild(bytearray):
    pass


class DequeChild(collections.deque):
    pass


class OrderedDictChild(collections.OrderedDict):
    pass


class DefaultDictChild(collections.defaultdict):
    pass


class CounterChild(collections.Counter):
    pass


class ZooError(Exception):
    def __init__(self, i):
        super(ZooError, self).__init__("error %d" % i, i)
        self.code = i


class Outer:
    class Inner:
        class Innermost:
            pass


def local_class():
    class Local:
        pass
    return Local


Local = local_class()


class Meta(type):
    pass


WithMeta = Meta("WithMeta", (object,), {})


class WithMetaToo(WithMeta):
    pass


class Finalised:
    def __del__(self):
        COUNTS[Finalised] -= 1


class Node:
    def __init__(self):
        self.other = None


class Garbage(Node):
    """Unreachable, in cycles, not yet collected."""


class Survivor:
    """What is left of many: the others' places are holes."""

    def __init__(self, i):
        self.payload = b"x" * (i % 400)


class Target:
    __slots__ = ("__weakref__",)


class Callable:
    def __call__(self):
        return self

    def method(self):
        return self


Point = collections.namedtuple("Point", "x y z")


# ---- what lives in them ----------------------------------------------------------------------------------------------

def make_user_objects(n):
    keep(Plain, Plain, 20 * n)
    keep(Materialised, Materialised, 5 * n)
    KEEP["dicts"] = [item.__dict__ for item in KEEP["Materialised"]]
    keep(Crowded, Crowded, n // 5)
    keep(Slotted, Slotted, 15 * n)
    keep(Bare, lambda i: Bare(), 3 * n)
    keep(SlotsAndDict, SlotsAndDict, 2 * n)
    keep(TypeHolder, TypeHolder, 4 * n)
    keep(IntChild, lambda i: IntChild(i << 40), 2 * n)
    keep(PlainInt, lambda i: PlainInt(i << (i % 200)), 2 * n)
    keep(PlainFloat, lambda i: PlainFloat(i / 7.0), 2 * n)
    keep(PlainStr, lambda i: PlainStr("text %d " % i * (i % 60)), n)
    keep(PlainBytes, lambda i: PlainBytes(b"b" * (i * 37 % 5000)), n)
    keep(StrChild, lambda i: StrChild("child %d" % i), n)
    keep(ListChild, lambda i: ListChild(range(i % 100)), n)
    keep(SlottedList, lambda i: SlottedList([i]), n)
    keep(DictChild, lambda i: DictChild(a=i, b=Plain), n)
    keep(TupleChild, lambda i: TupleChild((i, str(i))), n)
    keep(PlainTuple, lambda i: PlainTuple((i, Plain)), n)
    keep(SetChild, lambda i: SetChild(range(i % 90)), n)
    keep(FrozenSetChild, lambda i: FrozenSetChild(("f%d" % i, i)), n)
    keep(ByteArrayChild, lambda i: ByteArrayChild(i % 700), n)
    keep(DequeChild, lambda i: DequeChild(range(i % 200)), n)
    keep(OrderedDictChild, lambda i: OrderedDictChild([(i, i), ("k", "v")]), n)
    keep(DefaultDictChild, lambda i: DefaultDictChild(list, {i: [i]}), n)
    keep(CounterChild, lambda i: CounterChild("hello"), n // 2)
    keep(ZooError, raised, n // 2)
    keep(Outer.Inner, lambda i: Outer.Inner(), 70 + n)
    keep(Outer.Inner.Innermost, lambda i: Outer.Inner.Innermost(), 30 + n)
    keep(Local, lambda i: Local(), n)
    keep(WithMeta, lambda i: WithMeta(), n)
    keep(WithMetaToo, lambda i: WithMetaToo(), n)
    made(Meta, 2)
    keep(Finalised, lambda i: Finalised(), n)
    keep(Target, lambda i: Target(), n)
    keep(Callable, lambda i: Callable(), n)
    keep(Point, lambda i: Point(i, -i, None), 5 * n)
    dialect.make_user_objects(keep, made, n)


def raised(i):
    try:
        raise ZooError(i)
    except ZooError as error:
        return error


def make_cycles(n):
    ring = [Node() for _ in range(n)]
    for i, node in enumerate(ring):
        node.other = ring[i - 1]
    KEEP["ring"] = ring[0]
    made(Node, n)
    for _ in range(n):
        a, b = Garbage(), Garbage()
        a.other, b.other = b, a
    made(Garbage, 2 * n)


def make_builtins(n):
    def generator(x):
        held = [x]
        yield held
        yield x

    def closure(x):
        return lambda: x

    generators = [generator(i) for i in range(n)]
    for g in generators[::2]:
        next(g)
    KEEP["code"] = [generators, [closure(i) for i in range(n)], [g.gi_frame for g in generators[1:n // 2:2]],
                    [compile("a%d + 1" % i, "zoo", "eval") for i in range(50)],
                    [c.method for c in KEEP["Callable"]], [functools.partial(repr, i) for i in range(n)],
                    property(hash), staticmethod(hash), classmethod(hash), types.ModuleType("made_up"), len, [].append]
    KEEP["numbers"] = [[i * 1000003 for i in range(50 * n)], [i / 3.0 for i in range(50 * n)],
                       [1 << i for i in range(4 * n)], [complex(i, 1) for i in range(n)]]
    KEEP["strings"] = [["ascii %d" % i for i in range(10 * n)], [u"latin \xe9 %d" % i for i in range(n)],
                       [u"bmp \u20ac %d" % i for i in range(n)], [u"astral \U0001f40d %d" % i for i in range(n)],
                       "x" * 300000, u"\u20ac" * 5000, [dialect.intern("interned_%d" % i) for i in range(n)]]
    KEEP["bytes"] = [[b"%d" % i for i in range(5 * n)], b"y" * 200000, bytearray(1 << 20), bytearray(600), bytearray(3),
                     memoryview(bytearray(100)), memoryview(b"abc")[1:]]
    KEEP["containers"] = [tuple(range(5000)), [()] * 700, {i: i for i in range(200 * n)},
                          {str(i): None for i in range(n)}, set(range(100 * n)), frozenset(range(1000)),
                          {"a", 1, None, (2, 3)}, [{} for _ in range(n)],
                          [[] for _ in range(n)], [set() for _ in range(n)], [(i,) for i in range(5 * n)],
                          [{"k": i, "t": Plain} for i in range(5 * n)], [collections.deque(maxlen=5) for _ in range(n)],
                          collections.deque(range(10000)), collections.OrderedDict((i, i) for i in range(500)),
                          collections.defaultdict(list), collections.Counter("abracadabra"),
                          range(10), slice(1, 2, 3)]
    KEEP["stdlib"] = [array.array("d", range(300)), array.array("l"), decimal.Decimal("3.14"),
                      decimal.Decimal(7) ** 300, datetime.datetime(2020, 1, 2),
                      datetime.timedelta(5), re.compile("a(b|c)*d"), re.compile("x").match("x"),
                      io.BytesIO(b"z" * 3000), io.StringIO(u"text"), itertools.chain([1], [2]), itertools.count(5),
                      operator.itemgetter(1, 2), operator.attrgetter("a.b"), struct.Struct("<IQ"), iter([1, 2, 3]),
                      iter({1: 2}), reversed([1, 2]), enumerate("abc"), zip([1], [2]), map(str, [1]),
                      filter(None, [0]), dialect.thread.allocate_lock(), object()]
    KEEP["dialect"] = dialect.make_builtins(n)
    KEEP["weak"] = [[weakref.ref(t) for t in KEEP["Target"]], weakref.WeakValueDictionary(enumerate(KEEP["Target"])),
                    weakref.WeakKeyDictionary((t, 1) for t in KEEP["Target"]), weakref.proxy(KEEP["Target"][0])]


def make_traps(n):
    """Memory that is no object but looks like one to a careless reader."""
    plain = KEEP["Plain"][0]
    KEEP["traps"] = [[[plain, Plain], [plain, Bare, PlainInt, Slotted], [plain, int, str, dict], [None, PlainInt]]
                     for _ in range(n)]
    KEEP["type dicts"] = [{"a": Plain, "b": PlainInt, "c": dict} for _ in range(n)]
    # Buffers laid over the places of freed objects: what the new owner does not write still says what lay there.
    dead = [make(i << 60) for i in range(10 * n) for make in (PlainInt, PlainFloat, Slotted)]
    del dead[:]
    KEEP["short lists"] = [[i] for i in range(5 * n)]
    for item in KEEP["short lists"]:
        item.extend((None, None, None, None))
        del item[1:]


def make_holes(n):
    many = [Survivor(i) for i in range(60 * n)]
    state = 12345
    kept = []
    for item in many:
        state = (state * 1103515245 + 12345) % (1 << 31)
        if state >> 16 & 7 == 0:
            kept.append(item)
    del many[:]
    del item
    KEEP["Survivor"] = kept
    made(Survivor, len(kept))
    # Large blocks are malloc's: every other one goes, and some adjacent ones, so that bins of all kinds fill.
    blocks = [b"\0" * (520 + i * 61 % 9000) for i in range(10 * n)]
    del blocks[::2]
    del blocks[100:150]
    KEEP["blocks"] = blocks


def fill_free_lists():
    """One of each kind freed, where the interpreter keeps freed ones for reuse."""
    floats = [i / 9.0 for i in range(200)]
    tuples = [tuple(range(i % 21)) for i in range(2000)]
    lists = [[i] for i in range(200)]
    dicts = [{i: i} for i in range(200)]
    slices = [slice(i) for i in range(3)]
    methods = [KEEP["Callable"][0].method for _ in range(300)]
    deques = [collections.deque(range(200)) for _ in range(30)]
    generators = [(i for i in ()) for _ in range(300)]
    more = dialect.to_free()
    del floats, tuples, lists, dicts, slices, methods, deques, generators, more


def park_threads(count):
    """Threads with malloc arenas of their own, asleep."""
    park = dialect.thread.allocate_lock()
    park.acquire()
    for number in range(count):
        started = dialect.thread.allocate_lock()
        started.acquire()
        dialect.thread.start_new_thread(thread_body, (number, started, park))
        started.acquire()
    time.sleep(0.1)  # from release() to acquire() a thread allocates nothing; let it reach its sleep all the same
    KEEP["park"] = park


def thread_body(number, started, park):
    held = [b"\0" * (600 + 97 * i % 4000) for i in range(300 * (number + 1))]
    del held[::3]
    started.release()
    park.acquire()


def main():
    directory = sys.argv[1]
    n = 100 * (int(sys.argv[3]) if sys.argv[2:3] == ["--scale"] else 1)
    gc.collect()
    gc.disable()
    make_user_objects(n)
    make_cycles(n)
    make_builtins(n)
    make_traps(n)
    make_holes(n)
    KEEP["samples"] = samples.make()
    samples.write(os.path.join(directory, "samples.json"), KEEP["samples"])
    park_threads(2)
    info, stream = truth.nothing, 0
    if ctypes and hasattr(ctypes.CDLL(None), "malloc_info"):
        info, stream = truth.malloc_info_call(ctypes, os.path.join(directory, "warm_up.xml"))
        info(0, stream)
        info, stream = truth.malloc_info_call(ctypes, os.path.join(directory, "malloc_info.xml"))
    fd = os.open(os.path.join(directory, "truth.json"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    fill_free_lists()
    truth.write_settled(fd, COUNTS)
    truth.say_and_sleep(signal.pause, info, stream)


if __name__ == "__main__":
    main()
