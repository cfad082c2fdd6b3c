"""What reference_shapes.py makes, as far as CPython 2.7 has it, and what only that has."""

import collections
import datetime
import functools
import io
import itertools
import operator
import os
import re
import struct
import sys
import threading
import weakref

KEPT = []


class Old:
    """Of the old style."""
    shared = [1]

    def method(self):
        return self


class OldChild(Old):
    pass


class Plain(object):
    pass


class Slots(object):
    __slots__ = ("first", "second", "__dict__", "__weakref__")


class LongChild(long):  # noqa: 2.7
    pass


class TupleWithDict(tuple):
    pass


class Registered(type):
    pass


Made = Registered("Made", (Plain,), {"registry": {}})


def caught(raiser):
    try:
        raiser()
    except BaseException as error:
        return [error, sys.exc_info()[2]]


def exceptions():
    return [caught(lambda: {}["absent"]), caught(lambda: compile("a b c", "made_up", "exec")),
            caught(lambda: "\xff".decode("ascii")), caught(lambda: u"\u20ac".encode("ascii")),
            caught(lambda: os.stat("/no/such/file")), caught(lambda: open("/no/such/file")), caught(lambda: sys.exit([3])),
            caught(lambda: no_such_name), StopIteration([4]), UnicodeTranslateError(u"text", 1, 2, "a reason")]


def iterators():
    made = [iter(x) for x in ([1], (2, [3]), set([4]), {5: 6}, {7: [8]}.iteritems(), {9: 1}.itervalues(), "text", u"text",
                              bytearray(b"b"), xrange(3), collections.deque([1]))]
    made += [reversed([1, [2]]), reversed(collections.deque([1])), iter(list, [1]), enumerate([[1]], 1 << 70),
             {1: 2}.viewkeys(), {1: 2}.viewitems(), {1: 2}.viewvalues()]
    i = itertools
    made += [i.count(1 << 70, 3), i.cycle([[1]]), i.repeat([2], 3), i.chain([1], [[2]]), i.islice([1, 2], 1),
             i.starmap(max, [(1, 2)]), i.compress([1], [1]), i.dropwhile(bool, [1]), i.takewhile(bool, [1]),
             i.ifilter(None, [0]), i.ifilterfalse(bool, [0]), i.imap(str, [1]), i.izip([1], [[2]]),
             i.izip_longest([1], [2, 3], fillvalue=[0]), i.product([1], [[2]]), i.combinations([1, [2]], 2),
             i.combinations_with_replacement([1, 2], 2), i.permutations([1, 2, 3])]
    for item in list(made):
        for _ in range(2):
            try:
                made.append(next(item))
            except (StopIteration, TypeError, RuntimeError):
                break
    groups = i.groupby([1, 1, 2], key=lambda x: [x])
    made += [groups, next(groups)[1]]
    made += i.tee([[n] for n in range(100)])
    for _ in range(70):
        next(made[-1])
    return made


def functions():
    def plain(a, b=[2]):
        """A doc string"""
        return a, b

    def generator():
        held = [1]
        yield held
        yield 2

    def frames(argument):
        held = [argument]
        return sys._getframe(), lambda: held

    plain.attribute = [1]
    suspended, finished = generator(), generator()
    next(suspended)
    list(finished)
    wrapper = functools.partial(plain, 1, b=3)
    wrapper.attribute = [2]
    return [plain, suspended, finished, wrapper, property(plain), staticmethod(plain), classmethod(plain),
            super(TupleWithDict, TupleWithDict()), [].append, [].__len__, list.append, dict.__dict__["fromkeys"], Slots.first,
            Old().method, Old.method, Plain().__init__, frames(1), slice([1], 2, (3,)), operator.itemgetter([1], 2),
            operator.attrgetter("a.b"), operator.methodcaller("name", [1], key=[2]), functools.cmp_to_key(cmp)([4])]  # noqa


def containers():
    deque = collections.deque(range(300), maxlen=200)
    for _ in range(70):
        deque.popleft()
    members = set((n,) for n in range(30))
    for n in range(25):
        members.discard((n,))
    deleted = dict((n, [n]) for n in range(30))
    for n in range(25):
        del deleted[n]
    long_child, tuple_child, slots, old = LongChild(1 << 200), TupleWithDict((1, [2])), Slots(), OldChild()
    long_child.attribute, tuple_child.attribute, slots.other, old.attribute = [1], [2], [3], [4]
    slots.first = [5]
    target = Plain()
    return [deque, members, deleted, long_child, tuple_child, slots, old, Old, OldChild, Made, Made(), os.stat("/"),
            collections.OrderedDict(a=[1]), collections.defaultdict(list, a=[1]), memoryview(bytearray(b"text")),
            buffer("text"), target, weakref.ref(target, lambda _: None), weakref.proxy(target),  # noqa
            weakref.WeakKeyDictionary({target: [1]}), collections.namedtuple("Named", "a b")([1], 2)]


def library():
    import contextlib
    import decimal
    import json
    import random
    pattern = re.compile(r"(?P<name>a)(b)?")
    local = threading.local()
    local.value = [1]
    return [pattern, pattern.match("ab"), pattern.scanner("ab"), io.BytesIO(b"x"), io.StringIO(u"x"),
            io.TextIOWrapper(io.BufferedReader(io.FileIO("/dev/null"))), open("/dev/null"), struct.Struct("<IQ"), local,
            threading.Lock(), datetime.datetime(2020, 1, 1), decimal.Decimal(1), json.JSONDecoder(), random.Random(1),
            contextlib.closing(open("/dev/null"))]


def make():
    for maker in (exceptions, iterators, functions, containers, library):
        KEPT.append(maker())
    sys.exc_clear()
