"""Cycles of every sort that nothing refers to any more, and what the collector finds of them.

    python garbage.py DIRECTORY

makes them with the collector switched off and says "ready". After SIGUSR1 it collects under gc.DEBUG_SAVEALL and writes
DIRECTORY/garbage.json: what was then in gc.garbage, by type, and of how many objects gc.collect() said that they are
unreachable.

The collector finalises a generator that it finds by closing it, and what only its frame held never gets into gc.garbage;
so here that is held otherwise as well.
"""

import collections
import functools
import gc
import io
import itertools
import json
import operator
import os
import signal
import sys
import threading
import types
import weakref

import truth

try:
    import ctypes
except ImportError:
    ctypes = None

__metaclass__ = type  # for 2.7

KEPT = []  # cycles in use


class Holder:
    def method(self):
        return self


class Slotted:
    __slots__ = ("link", "__weakref__")


class Finalised(Holder):
    def __del__(self):
        pass


class Failed(Exception):
    pass


class Vector(list):
    pass


class Table(dict):
    pass


def call_back(_):
    pass


def generate(holder):
    held = [holder]
    yield held
    yield holder


def keep_frame(holder, generator):
    if sys.version_info < (3, 11):  # where it is an object
        holder.frame = generator.gi_frame
    return generator


def started(holder):
    generator = generate(holder)
    holder.held = next(generator)
    return keep_frame(holder, generator)


def fail(holder, depth=3):
    if depth == 0:
        raise Failed(holder)
    fail(holder, depth - 1)


def failure(holder):
    try:
        fail(holder)
    except Failed as error:
        if sys.version_info < (3,):
            error.traceback = sys.exc_info()[2]
            sys.exc_clear()
        return error


def decorated(holder):
    @functools.wraps(holder.method)
    def wrapper(*_, **__):
        return holder
    return wrapper


def made_class(holder):
    name = type("Made", (Holder,), {"holder": holder, "table": {"a": [holder]}})
    name.instance = name()
    return name


def local(holder):
    data = threading.local()
    data.holder = holder
    return data


def text_file(holder):
    file = io.StringIO()
    file.holder = holder
    return file


def cached(holder):
    @functools.lru_cache(maxsize=7)
    def function(i):
        return [holder, i]
    for i in range(9):
        function(i)
    return function


def element(holder):
    import xml.etree.ElementTree
    top = xml.etree.ElementTree.Element("top", {"a": "b"})
    xml.etree.ElementTree.SubElement(top, "below").text = holder
    return top


def structure(holder):
    class Struct(ctypes.Structure):
        _fields_ = [("held", ctypes.py_object), ("n", ctypes.c_int)]
    return Struct(holder, 3)


def numbers_of(holder):
    scan = json.JSONDecoder(object_hook=holder.method)
    return scan.scan_once


def of_module(holder):
    module = types.ModuleType("made")
    module.holder = holder
    return module


def future(holder):
    import asyncio
    loop = holder.loop = asyncio.new_event_loop()
    loop.close()
    waiting = loop.create_future()
    waiting.add_done_callback(lambda _: holder)
    return waiting


def context(holder):
    import contextvars
    variable = contextvars.ContextVar("made")
    found = contextvars.copy_context()
    found.run(variable.set, holder)
    return found


def named_tuple(holder):
    return NamedPair(holder, [holder])


NamedPair = collections.namedtuple("NamedPair", "first second")

# What of the version's own can hold a Holder.
LINKS = [
    lambda h: h, lambda h: [h], lambda h: (h, (h,)), lambda h: {"k": h}, lambda h: {h: 1}, lambda h: {h, 2},
    lambda h: frozenset([h]), lambda h: Vector([h]), lambda h: Table(a=h), lambda h: collections.deque([h] * 100),
    lambda h: collections.OrderedDict([("a", h), ("b", 2)]), lambda h: collections.defaultdict(list, a=h),
    lambda h: collections.defaultdict(h.method), named_tuple, lambda h: functools.partial(len, h, key=h),
    lambda h: h.method, lambda h: iter([h]), lambda h: iter((h,)), lambda h: iter({1: h}.items()), lambda h: reversed([h]),
    lambda h: enumerate([h]), lambda h: zip([h], [h]), lambda h: map(h.method, [h]), lambda h: itertools.chain([h], [h]),
    lambda h: itertools.cycle([h]), lambda h: itertools.repeat(h), lambda h: itertools.islice([h], 5),
    lambda h: itertools.tee([h])[1], lambda h: itertools.product([h], [h, 1]), lambda h: itertools.count(3),
    lambda h: itertools.groupby([h]), lambda h: itertools.permutations([h]), lambda h: lambda: h, decorated, started,
    lambda h: keep_frame(h, generate(h)), failure, made_class, local, text_file, cached, element, structure, numbers_of, of_module, future, context,
    lambda h: weakref.ref(h, h.method), lambda h: weakref.proxy(h, h.method), lambda h: weakref.WeakValueDictionary(a=h),
    lambda h: weakref.WeakSet([h]), lambda h: super(Holder, h), lambda h: property(h.method), lambda h: staticmethod(h),
    lambda h: classmethod(h), lambda h: types.MethodType(len, h), lambda h: operator.itemgetter(h, 1),
    lambda h: operator.methodcaller("m", h), lambda h: types.SimpleNamespace(h=h),
    lambda h: types.MappingProxyType({"h": h}), lambda h: functools.cmp_to_key(h.method)(h),
    lambda h: ctypes.py_object(h), lambda h: (ctypes.py_object * 3)(h), lambda h: slice(h, None),
    lambda h: types.GenericAlias(list, (h,)), lambda h: collections.ChainMap({"h": h}), lambda h: collections.Counter([h]),
    lambda h: ctypes.CFUNCTYPE(ctypes.c_int)(h.method), lambda h: memoryview(bytearray(10)), lambda h: Failed(h),
]


def make_garbage(n):
    refused = 0
    for link in LINKS:
        for cls in (Holder, Slotted, Finalised):
            for _ in range(n):
                holder, other = cls(), Holder()
                other.link = holder
                try:
                    holder.link = [other, link(other if cls is Slotted else holder)]
                except (AttributeError, TypeError, ImportError):
                    refused += 1  # not of this version
    return refused


def make_in_use(n):
    for _ in range(n):
        a, b = {}, []
        a["link"] = b
        b.append(a)
        KEPT.append(a)
    # One that is too long to be searched for its shortest way round.
    first = last = [None]
    for _ in range(150000):
        last = [last]
    first[0] = last
    KEPT.append(last)
    # Weak references to what goes, from what stays.
    dropped = Holder()
    dropped.link = dropped
    KEPT.append(weakref.ref(dropped, call_back))


def main():
    directory = sys.argv[1]
    signals = []
    signal.signal(signal.SIGUSR1, lambda *_: signals.append(1))
    make_garbage(1)  # imports, and what is made once only
    gc.collect()
    gc.collect()
    gc.disable()
    make_garbage(3)
    make_in_use(20)
    os.write(1, b"r")
    while not signals:
        signal.pause()
    generations = None
    if sys.version_info >= (3, 8) and "free-threading" not in sys.version:
        generations = [len(gc.get_objects(generation=i)) for i in range(3)]
    gc_garbage = {"address": hex(id(gc.garbage)).rstrip("L"), "count": len(gc.garbage)}
    before = len(gc.garbage)  # in 2.7, where what has a __del__ is not collected
    gc.set_debug(gc.DEBUG_SAVEALL)
    unreachable = gc.collect()
    gc.set_debug(0)
    counts = {}
    for item in gc.garbage[before:]:
        key = truth.name_of(type(item))
        counts[key] = counts.get(key, 0) + 1
    finalised = {truth.name_of(type(item)) for item in gc.garbage[before:] if hasattr(type(item), "__del__")}
    rows = [{"module": m, "name": n, "count": c, "has_finalizer": (m, n) in finalised}
            for (m, n), c in sorted(counts.items())]
    with open(os.path.join(directory, "garbage.part"), "w") as file:
        json.dump({"unreachable": unreachable, "types": rows, "generations": generations, "gc_garbage": gc_garbage}, file)
    os.rename(os.path.join(directory, "garbage.part"), os.path.join(directory, "garbage.json"))
    signal.pause()


if __name__ == "__main__":
    main()
