"""Objects of kinds whose references the zoo does not show, of every kind that the interpreter has. CPython 3."""

import abc
import asyncio
import codecs
import collections
import datetime
import functools
import io
import itertools
import os
import re
import sys
import threading
import time
import types
import typing
import weakref

KEPT = []


class Plain:
    pass


class Slots:
    __slots__ = ("first", "second", "__dict__", "__weakref__")


class LongChild(int):
    """A var-sized object with a __dict__ behind its digits."""


class TupleWithDict(tuple):
    pass


class TypeWithSlots(type):
    """A metaclass whose types have attributes of their own."""

    def __init__(cls, *arguments):
        super().__init__(*arguments)
        cls.registered = [cls]


class Registered(metaclass=TypeWithSlots):
    registry = {}


class Abstract(abc.ABC):
    @abc.abstractmethod
    def method(self):
        pass


Abstract.register(Plain)


class ErrorWithSlots(OSError):
    __slots__ = ("extra",)


def made_by(makers):
    """What each returns, but for those that this interpreter lacks."""
    for make in makers:
        try:
            KEPT.append(make())
        except (AttributeError, ImportError, TypeError, ValueError, SyntaxError, NameError):
            pass


def caught(raiser):
    try:
        raiser()
    except BaseException as error:
        return error


def exceptions():
    def chained():
        try:
            raise KeyError([1])
        except KeyError as error:
            raise ValueError("late") from error

    def with_slots():
        error = ErrorWithSlots(2, "no", "a file", None, "another")
        error.extra, error.more = [1], [2]
        raise error

    def leave():
        raise SystemExit([3])

    return [caught(chained), caught(with_slots), caught(leave), caught(lambda: next(iter(()))),
            caught(lambda: compile("a b c", "made_up", "exec")), caught(lambda: b"\xff".decode("ascii")),
            caught(lambda: "\u20ac".encode("ascii")), caught(lambda: __import__("no_such_module")),
            caught(lambda: no_such_name), caught(lambda: Plain().absent), caught(lambda: os.stat("/no/such/file")),
            caught(lambda: codecs.charmap_build and "x".translate(1)), StopIteration([4]), StopAsyncIteration(5),
            UnicodeTranslateError("text", 1, 2, "a reason"), ImportError("m", name="n", path="p"),
            KeyboardInterrupt(), MemoryError()]


def groups():
    group = eval("ExceptionGroup('several', [ValueError(1), OSError(2, 'two')])")
    group.add_note("a note")
    return caught(lambda: raise_it(group))


def raise_it(error):
    raise error


def iterators():
    made = [iter(x) for x in ([1], (2, [3]), {4}, {5: 6}, {7: [8]}.items(), {9: 1}.values(), "text", "caf\xe9 \u20ac", b"bytes",
                              bytearray(b"b"), range(3), range(10 ** 30), collections.deque([1]), memoryview(b"m"),
                              collections.OrderedDict([(1, [2])]), types.MappingProxyType({1: 2}))]
    made += [reversed([1, [2]]), reversed(collections.deque([1])), iter(list, [1]), enumerate([[1]], 1 << 70), zip([1], [[2]]),
             map(str, [[3]]), filter(None, [[4]]), {1: 2}.keys(), {1: 2}.items(), {1: 2}.values(),
             collections.OrderedDict(a=1).keys(), iter(sequence())]
    i = itertools
    made += [i.count(1 << 70, 3), i.count([1] and 2.5), i.cycle([[1]]), i.repeat([2], 3), i.chain([1], [[2]]),
             i.chain.from_iterable([[3]]), i.islice([1, 2], 1), i.starmap(max, [(1, 2)]), i.accumulate([1, 2]),
             i.compress([1], [1]), i.dropwhile(bool, [1]), i.takewhile(bool, [1]), i.filterfalse(bool, [0]),
             i.product([1], [[2]]), i.combinations([1, [2]], 2), i.combinations_with_replacement([1, 2], 2),
             i.permutations([1, 2, 3]), i.zip_longest([1], [2, 3], fillvalue=[0])]
    for item in list(made):
        for _ in range(2):
            try:
                made.append(next(item))
            except (StopIteration, TypeError, RuntimeError):
                break
    groups_of = i.groupby([1, 1, 2], key=lambda x: [x])
    made += [groups_of, next(groups_of)[1]]
    made += i.tee([[n] for n in range(100)])
    for _ in range(70):
        next(made[-1])
    if hasattr(i, "pairwise"):
        pairs = i.pairwise([[1], [2], [3]])
        made += [pairs, next(pairs)]
    if hasattr(i, "batched"):
        made += [i.batched([1, 2, 3], 2)]
    return made


def sequence():
    class Sequence:
        def __getitem__(self, index):
            return [index][index]
    return Sequence()


def functions():
    def annotated(a: int, *, b: "text" = [2]) -> list:
        """A doc string"""
        return a, b

    def generator():
        held = [1]
        try:
            yield held
        except ValueError:
            yield [held, sys.exc_info()]

    annotated.attribute = [1]
    suspended = generator()
    next(suspended)
    suspended.throw(ValueError("in the generator"))
    finished = generator()
    list(finished)
    wrapper = functools.partial(annotated, 1, b=3)
    wrapper.attribute = [2]
    cached = functools.lru_cache(maxsize=3, typed=True)(lambda *a, **k: [a, k])
    for n in range(5):
        cached(n, key=n)
    cached.attribute = [3]
    unbounded = functools.lru_cache(maxsize=None)(lambda a: [a])
    unbounded(1)
    key = functools.cmp_to_key(lambda a, b: 0)([4])
    decorated = property(annotated, generator, None, "a doc string of its own")
    return [annotated, generator(), suspended, finished, wrapper, cached, unbounded, key, decorated, decorated.getter,
            staticmethod(annotated), classmethod(annotated), super(TupleWithDict, TupleWithDict()), [].append,
            [].__len__, list.append, list.__len__, dict.__dict__["fromkeys"], Slots.first, type.__dict__["__doc__"],
            Slots().__init__, types.MethodType(annotated, [5]), annotated.__code__, types.SimpleNamespace(a=[6]),
            slice([1], 2, (3,)), len, sys._getframe, operator_objects(), finished_frames()]


def operator_objects():
    import operator
    return [operator.itemgetter([1], 2), operator.itemgetter(3), operator.attrgetter("a.b", "c"),
            operator.methodcaller("name", [1], key=[2])]


def finished_frames():
    """Frames that have ended, with and without locals."""
    found = []

    def inner(argument):
        held = [argument]
        cell = {"cell": held}
        found.append(sys._getframe())
        found.append(lambda: cell)
        raise ValueError(held)

    try:
        inner(1)
    except ValueError as error:
        found.append(error.__traceback__)
    return found


def containers():
    ordered = collections.OrderedDict((n, [n]) for n in range(20))
    for n in range(5):
        del ordered[n]
    ordered.attribute = [1]
    ordered_of_text = collections.OrderedDict(a=1, b=[2])
    deque = collections.deque(range(300), maxlen=200)
    for _ in range(70):
        deque.popleft()
    mixed = {"a": [1], "b": [2]}
    mixed.get(1)
    deleted = {n: [n] for n in range(30)}
    for n in range(25):
        del deleted[n]
    members = {(n,) for n in range(30)}
    for n in range(25):
        members.discard((n,))
    long_child, tuple_child, slots = LongChild(1 << 200), TupleWithDict((1, [2])), Slots()
    long_child.attribute, tuple_child.attribute, slots.other = [1], [2], [3]
    slots.first = [4]
    return [ordered, weakref.ref(ordered), ordered_of_text, deque, mixed, deleted, members, frozenset(members),
            collections.defaultdict(list, a=[1]), collections.ChainMap({1: [2]}), collections.Counter("text"),
            long_child, tuple_child, slots, Registered, Abstract, collections.namedtuple("Named", "a b")([1], 2),
            os.stat("/"), time.localtime(), sys.version_info, sys.flags, os.times(), memoryview(bytearray(b"text")),
            memoryview(b"text")[1:], bytearray(b"b"), split_dicts(), weak_ones()]


def split_dicts():
    made = [Plain() for _ in range(4)]
    for n, item in enumerate(made):
        item.a, item.b = [n], {n: [n]}
    made.append(made[0].__dict__)
    del made[1].a
    made[2].__dict__["c"] = [3]
    made[3].__dict__ = {"d": [4]}
    return made


def weak_ones():
    target = Plain()
    return [target, weakref.ref(target, lambda _: None), weakref.proxy(target), weakref.WeakSet([target]),
            weakref.WeakKeyDictionary({target: [1]}), weakref.finalize(target, print, [1]),
            weakref.WeakMethod(threading.Event().set)]


def concurrency():
    local = threading.local()
    local.value = [1]
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    future.add_done_callback(print)
    future.add_done_callback(repr)

    async def waits(held):
        return [await future, held]

    async def fails():
        raise ValueError([1])

    async def agen():
        held = [1]
        yield held
        yield 2

    async def starts(agens):
        await agens.__anext__()

    done, failed, cancelled = (loop.create_future() for _ in range(3))
    done.set_result([2])
    failed.set_exception(ValueError([3]))
    cancelled.cancel()
    tasks = [loop.create_task(make) for make in (waits([4]), fails())]
    started = agen()
    tasks.append(loop.create_task(starts(started)))
    loop.call_soon(loop.stop)
    loop.run_forever()
    stuck = loop.create_task(waits([5]))
    stuck.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
    created = agen()
    return [local, loop, future, done, failed, cancelled, tasks, started, stuck, created, created.asend(None),
            started.asend([6]), started.athrow(ValueError), waits([7]), waits([8]).__await__(), threading.Lock(),
            threading.RLock(), threading.Condition(), threading.Semaphore(2)]


def contexts():
    import contextvars
    variables = [contextvars.ContextVar("variable_%d" % n, default=[n]) for n in range(60)]
    made = contextvars.copy_context()
    tokens = [made.run(variable.set, [variable]) for variable in variables]
    return [variables, made, tokens, made.copy(), contextvars.Context()]


def ctypes_objects():
    import ctypes

    class Structure(ctypes.Structure):
        _fields_ = [("number", ctypes.c_int), ("text", ctypes.c_char_p), ("next", ctypes.c_void_p)]

    class Union(ctypes.Union):
        _fields_ = [("number", ctypes.c_int), ("other", ctypes.c_double)]

    callback_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
    structure = Structure(1, b"text")
    return [Structure, Union, structure, Union(), ctypes.POINTER(Structure), ctypes.pointer(structure), (ctypes.c_int * 3)(),
            (ctypes.py_object * 2)([1], [2]), ctypes.py_object([3]), callback_type, callback_type(lambda n: n),
            ctypes.CDLL(None).printf, ctypes.byref(structure), Structure.number, ctypes.c_int(7),
            ctypes.create_string_buffer(b"text")]


def modules_of_the_library():
    import csv
    import decimal
    import json
    import pickle
    import queue
    import random
    import struct
    import xml.etree.ElementTree
    tree = xml.etree.ElementTree.fromstring("<a k='v'>text<b/>tail<c>" + "<d/>" * 20 + "</c></a>")
    simple = queue.SimpleQueue() if hasattr(queue, "SimpleQueue") else None
    if simple is not None:
        for n in range(20):
            simple.put([n])
        simple.get()
    zone = datetime.timezone(datetime.timedelta(hours=1), "zone")
    pattern = re.compile(r"(?P<name>a)(b)?")
    return [tree, simple, zone, datetime.datetime(2020, 1, 1, tzinfo=zone), datetime.time(1, tzinfo=zone),
            datetime.date(2020, 1, 1), pattern, pattern.match("ab"), pattern.scanner("ab"), io.BytesIO(b"x" * 3000),
            io.StringIO("text"), io.TextIOWrapper(io.BufferedReader(io.FileIO("/dev/null"))),
            io.BufferedRWPair(io.FileIO("/dev/null"), io.FileIO("/dev/null", "w")),
            io.BufferedRandom(io.FileIO("/dev/null", "r+")), io.IncrementalNewlineDecoder(None, True),
            codecs.getincrementaldecoder("utf-8")(), struct.Struct("<IQ"), struct.iter_unpack("B", b"abc"),
            decimal.Decimal(1), decimal.Context(), random.Random(1), json.JSONDecoder(), json.JSONEncoder(),
            csv.reader(["a,b"]), csv.writer(io.StringIO()), pickle.Pickler(io.BytesIO()), os.scandir("/"),
            struct.Struct("I").iter_unpack(b"abcd")]


def new_syntax():
    """What an older interpreter cannot even compile."""
    made = []
    for text in ("type Alias[T] = list[T]\nfound = [Alias, Alias.__value__, Alias.__type_params__]",
                 "def f[T: int, *Ts, **P](x: T) -> T: return x\nfound = [f, f.__type_params__, f.__type_params__[0].__bound__]",
                 "class G[T]:\n    x: T\nfound = [G, G[int]]",
                 "name = [1]\nfound = [t'a {name} b']",
                 "found = [list[int], dict[str, list[int]], iter(list[int])]",
                 "found = [int | str, int | list[str], (int | str).__args__]"):
        names = {}
        exec(text, names)
        made.append(names["found"])
        KEPT.append(names["found"])
    return made


def typing_objects():
    T = typing.TypeVar("T", bound=int)
    return [T, typing.List[int], typing.Optional[T], typing.Callable[[int], str], typing.Union[int, str],
            typing.TypeVar("U", int, str)]


def newer_typing():
    P = typing.ParamSpec("P")
    return [P, P.args, P.kwargs]


def frozen_dict():
    return frozendict(a=[1])  # noqa: 3.15


def frame_locals():
    def ended(argument):
        held = [argument]
        return sys._getframe()
    frame = ended(1)
    return [frame, frame.f_locals]


def async_iteration():
    async def agen():
        yield 1
    return [anext(agen(), [1]), aiter(agen())]


def make():
    made_by((exceptions, groups, iterators, functions, containers, concurrency, contexts, ctypes_objects,
             modules_of_the_library, new_syntax, typing_objects, newer_typing, frozen_dict, frame_locals, async_iteration))
