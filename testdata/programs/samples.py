"""One object of each kind, and what the interpreter says of each: the truth for `heapcore show`.

    make()                  {name: object}
    write(path, samples)    a JSON array, one entry a sample:
        name, address       of the sample; the address in hexadecimal
        type                "module.qualname"
        bytes               sys.getsizeof
        text                repr(), or what heapcore is to say in its place
        items               of a container: [text] or [key's text, value's text] in its own order; else null
        attributes          of an instance, name: text; else null
        locals              of a frame, name: text; else null
        fields              name: text, of what heapcore is to name beside the value; it may name more

Parsed by CPython 2.7 and 3; what only one of them has is in samples_py2.py and samples_py3.py.
"""

import array
import collections
import datetime
import functools
import itertools
import json
import os
import sys
import time
import types
import weakref

if sys.version_info >= (3,):
    import samples_py3 as dialect
else:
    import samples_py2 as dialect

__metaclass__ = type  # for 2.7, where a class is of the old style otherwise

KEPT = []    # what samples refer to without keeping it alive
TARGET = []  # of the weak references


class Plain:
    """Attributes only."""

    def __init__(self):
        self.number = 41
        self.text = "plain"
        self.pair = (1, 2)

    def method(self):
        return self


class Materialised(Plain):
    """Its __dict__ has been asked for."""


class Odd(Plain):
    """Attributes come and go, so that the shared keys do not serve."""


class Crowded:
    def __init__(self):
        for i in range(40):
            setattr(self, "attribute_%02d" % i, i)


class Empty:
    pass


class Slotted:
    __slots__ = ("left", "right", "never_set", "__weakref__")

    def __init__(self):
        self.left = 1
        self.right = "right"


class SlotsAndDict(Slotted):
    def __init__(self):
        Slotted.__init__(self)
        self.extra = 7


class SlotsOverSlots(Slotted):
    __slots__ = ("upper",)

    def __init__(self):
        Slotted.__init__(self)
        self.upper = 3.5


class Weak:
    __slots__ = ("__weakref__",)


class IntChild(int):
    pass


class LongChild(type(1 << 100)):
    __slots__ = ()


class LongWithAttributes(type(1 << 100)):
    pass


class FloatChild(float):
    pass


class StrChild(str):
    pass


class TextChild(type(u"")):
    __slots__ = ()


class BytesChild(bytes):
    __slots__ = ()


class ListChild(list):
    pass


class TupleChild(tuple):
    pass


class DictChild(dict):
    pass


class SetChild(set):
    pass


class Problem(Exception):
    def __init__(self, message, code):
        super(Problem, self).__init__(message, code)
        self.code = code


Point = collections.namedtuple("Point", "x y z")


def function_of_all(first, second=2, *rest, **named):
    return first, second, rest, named


def make_closure(captured):
    later = captured * 2

    def inner(argument):
        return captured, later, argument
    return inner


def counting(limit):
    held = [limit]
    for index in range(limit):
        other = index * 2
        yield (index, other,
               held)


def parked(started, park):
    held = [1]
    started.release()
    park.acquire()
    yield held


def running_generator():
    """A thread is inside it, asleep."""
    started, park = dialect.allocate_lock(), dialect.allocate_lock()
    started.acquire()
    park.acquire()
    generator = parked(started, park)
    dialect.start_new_thread(next, (generator,))
    started.acquire()
    time.sleep(0.1)  # from release() to acquire() a thread does no more; let it reach its sleep all the same
    KEPT.append(park)
    return generator


def frame_of(generator):
    return generator.gi_frame


def failing(depth):
    local = "local %d" % depth
    if depth == 0:
        raise Problem("went wrong", 17)
    failing(depth - 1)
    return local


def caught(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return error


def make_numbers():
    yield "zero", 0
    yield "one", 1
    yield "minus one", -1
    yield "small", 12345
    yield "two digits", (1 << 30) + 5
    yield "negative", -((1 << 62) + 12345)
    yield "word", (1 << 63) - 1
    yield "over a word", 1 << 64
    yield "huge", 7 ** 1000
    yield "huge negative", -(10 ** 300)
    yield "int child", IntChild(5)
    yield "long child", LongChild(5)
    yield "true", True
    yield "false", False
    for i, value in enumerate((0.0, -0.0, 1.5, 0.1, 1e16, 123456789012345680.0, 1e22, 1e-4, 1e-5, 5e-324, 1.7976931348623157e308,
                               float("inf"), float("-inf"), 1.0 / 3, 100.0, 9999999999999998.0, -2.5e-7)):
        yield "float %d" % i, value
    yield "nan", float("nan")
    yield "float child", FloatChild(2.25)
    yield "complex", complex(1.5, -2)
    yield "imaginary", complex(0, 1)
    yield "complex minus zero", complex(-0.0, 3)
    yield "complex nan", complex(float("nan"), float("inf"))


def make_strings():
    yield "empty text", u""
    yield "one character", u"x"
    yield "ascii", u"plain ascii text"
    yield "quotes", u"it's \"so\""
    yield "apostrophe", u"it's"
    yield "controls", u"tab\t newline\n return\r nul\0 bell\x07 delete\x7f backslash\\ c1\x85"
    yield "latin", u"caf\xe9"
    yield "bmp", u"\u20ac 5"
    yield "astral", u"snake \U0001f40d"
    yield "long text", u"long " * 300
    yield "long bmp", u"\u4e2d" * 700
    yield "str child", StrChild("child")
    yield "text child", TextChild(u"caf\xe9 child")
    yield "no bytes", b""
    yield "bytes", b"bytes \x00\xff\n'quoted'"
    yield "long bytes", b"ab" * 700
    yield "bytes child", BytesChild(b"child")
    yield "bytearray", bytearray(b"bytes \x00\xff in an array")
    trimmed = bytearray(b"cut off at its front")
    del trimmed[:4]
    yield "bytearray cut", trimmed
    yield "no bytearray", bytearray()


def make_containers():
    yield "no tuple", ()
    yield "tuple", (1, "two", 3.0, None)
    yield "nested", [1, [2, (3, {4: [5]})]]
    yield "no list", []
    yield "list", [1, "two", u"\u20ac", b"three", None, True]
    loop = [1]
    loop.append(loop)
    yield "list in itself", loop
    loop = {}
    loop["self"] = loop
    yield "dict in itself", loop
    yield "list of many", list(range(100))
    yield "list child", ListChild([1, 2])
    yield "tuple child", TupleChild((1, 2))
    yield "named tuple", Point(1, -1, None)
    yield "no dict", {}
    yield "dict of text", {"a": 1, "b": [2], "c": None}
    yield "dict of ints", {1: "one", 2: "two", 3: "three"}
    yield "dict of all", {1: "one", "two": 2, (3, 4): None, None: 5.5}
    holes = dict((i, i) for i in range(20))
    for i in range(0, 20, 3):
        del holes[i]
    yield "dict with holes", holes
    yield "large dict", dict((i, str(i)) for i in range(300))
    yield "large dict of text", dict((str(i), i) for i in range(300))
    yield "dict child", DictChild(a=1)
    yield "set", set([1, 2, "three", None])
    yield "no set", set()
    yield "large set", set(range(100, 200))
    shrunk = set(range(20))
    shrunk -= set(range(0, 20, 3))
    yield "set with holes", shrunk
    yield "frozenset", frozenset([1, (2, 3)])
    yield "set child", SetChild([1])
    ordered = collections.OrderedDict((c, ord(c)) for c in "hgfedcba")
    del ordered["f"]
    ordered["f"] = "again"
    yield "ordered dict", ordered
    if hasattr(ordered, "move_to_end"):
        ordered.move_to_end("a", last=False)
        yield "ordered keys", ordered.keys()
        yield "ordered items", ordered.items()
    viewed = {1: "one", "two": [2], (3,): None}
    for part in ("keys", "values", "items"):
        yield "dict " + part, getattr(viewed, "view" + part, getattr(viewed, part))()
    yield "no ordered dict", collections.OrderedDict()
    yield "default dict", collections.defaultdict(list, {"k": [1]})
    yield "counter", collections.Counter("aab")
    yield "deque", collections.deque([1, "two", None])
    yield "bounded deque", collections.deque(range(10), 4)
    long_deque = collections.deque(range(300))
    long_deque.rotate(70)
    long_deque.popleft()
    yield "long deque", long_deque
    yield "no deque", collections.deque()
    yield "doubles", array.array("d", [1.0, 2.5])
    yield "bytes array", array.array("b", [-1, 2])
    yield "shorts array", array.array("H", [1, 65535])
    yield "longs array", array.array("l", [-5, 1 << 40])
    yield "floats array", array.array("f", [0.5])
    yield "no array", array.array("i")


def make_instances():
    yield "plain", Plain()
    materialised = Materialised()
    KEPT.append(materialised.__dict__)
    yield "materialised", materialised
    yield "its dict", materialised.__dict__
    odd = Odd()
    del odd.text
    odd.later = "later"
    odd.text = "back"
    yield "odd", odd
    yield "crowded", Crowded()
    yield "empty", Empty()
    yield "slotted", Slotted()
    yield "slots and dict", SlotsAndDict()
    yield "slots over slots", SlotsOverSlots()
    yield "object", object()
    child = ListChild([1])
    child.note = "on a list"
    yield "list with attributes", child
    child = TupleChild((1,))
    child.note = "on a tuple"
    yield "tuple with attributes", child
    child = LongWithAttributes(1 << 70)
    child.note = "on an int"
    yield "int with attributes", child
    child = DictChild(a=1)
    child.note = "on a dict"
    yield "dict with attributes", child


def make_code():
    yield "function", function_of_all
    yield "closure", make_closure(21)
    yield "lambda", lambda: None
    yield "code", function_of_all.__code__
    yield "bound method", Plain().method
    yield "builtin", len
    yield "builtin method", [].append
    yield "method descriptor", list.append
    yield "class method descriptor", dict.__dict__["fromkeys"]
    yield "member descriptor", Slotted.__dict__["left"]
    yield "getset descriptor", type.__dict__["__doc__"] if sys.version_info < (3,) else type.__dict__["__qualname__"]
    yield "wrapper descriptor", object.__dict__["__init__"]
    yield "method wrapper", (5).__add__
    for name, steps in (("created", 0), ("suspended", 2), ("finished", 4)):
        generator = counting(3)
        for _ in itertools.islice(generator, steps):
            pass
        yield name + " generator", generator
    yield "running generator", running_generator()
    suspended = counting(2)
    next(suspended)
    KEPT.append(suspended)
    yield "frame", frame_of(suspended)
    yield "cell", make_closure(5).__closure__[0]
    yield "empty cell", empty_cell()
    error = caught(failing, 2)
    yield "exception", error
    yield "value error", ValueError("not so", 3)
    yield "key error", caught({}.__getitem__, "missing")
    yield "os error", caught(os.stat, "/nonexistent")
    yield "module", os
    yield "made module", types.ModuleType("made_up")
    yield "class", Plain
    yield "child class", SlotsAndDict
    yield "builtin class", dict
    target = Weak()
    TARGET.append(target)
    yield "weakref", weakref.ref(target)
    gone = Weak()
    yield "dead weakref", weakref.ref(gone)
    del gone
    yield "weak proxy", weakref.proxy(target)
    yield "property", property(function_of_all)
    yield "static method", staticmethod(function_of_all)
    yield "class method", classmethod(function_of_all)
    yield "partial", functools.partial(len, [1, 2])
    yield "partial with keywords", functools.partial(function_of_all, 1, second=3)
    yield "slice", slice(1, None, 2)
    yield "range", range(1, 10, 2) if sys.version_info >= (3,) else xrange(1, 10, 2)  # noqa: F821
    yield "memoryview", memoryview(b"seen")
    yield "memoryview part", memoryview(bytearray(b"0123456789"))[2:6]
    yield "none", None
    yield "ellipsis", Ellipsis
    yield "not implemented", NotImplemented
    yield "timedelta", datetime.timedelta(5, 6, 7)
    yield "date", datetime.date(2020, 1, 2)
    yield "datetime", datetime.datetime(2020, 1, 2, 3, 4, 5, 6)
    yield "time", datetime.time(1, 2, 3)


def empty_cell():
    def inner():
        return never
    cell = inner.__closure__[0]
    if False:
        never = 1
    return cell


def make():
    samples = {}
    for makers in (make_numbers, make_strings, make_containers, make_instances, make_code, dialect.make):
        samples.update(makers())
    return samples


# ---- what is true of them --------------------------------------------------------------------------------------------

# Asked one by one: vars() would give each instance a __dict__ of its own, where it has none yet.
NAMES = ("number", "text", "pair", "later", "left", "right", "never_set", "extra", "upper", "note", "code") \
    + tuple("attribute_%02d" % i for i in range(40))
CLASSES = (Plain, Materialised, Odd, Crowded, Empty, Slotted, SlotsAndDict, SlotsOverSlots, ListChild, TupleChild,
           LongWithAttributes, DictChild, Problem)


def text(item):
    """repr(), where that is of a builtin type and the same in all versions; else what heapcore is to say."""
    address = "0x%x" % id(item)
    if id(item) in dialect.TEXTS:
        return dialect.TEXTS[id(item)]
    kind = type(item).__name__
    if isinstance(item, Point):
        return tuple.__repr__(item)
    if isinstance(item, collections.Counter):
        return dict.__repr__(item)
    if isinstance(item, BaseException):
        return kind + (repr(item.args) if len(item.args) != 1 else "(%r)" % item.args)
    if kind == "module":
        return "<module %r>" % item.__name__
    if kind == "frame":
        return "<frame at %s, file %r, line %d, code %s>" % (
            address, item.f_code.co_filename, item.f_lineno, item.f_code.co_name)
    if kind in ("weakref", "ReferenceType", "weakproxy", "ProxyType"):
        is_proxy = "roxy" in kind
        target = TARGET[0] if is_proxy else item()
        if target is None:
            return "<weakref at %s; dead>" % address
        return "<%s at %s; to '%s' at 0x%x>" % ("weakproxy" if is_proxy else "weakref", address,
                                                dialect.type_name(type(target)), id(target))
    if kind == "wrapper_descriptor":  # 3.15 does not say whose
        return "<slot wrapper '%s' of '%s' objects>" % (item.__name__, item.__objclass__.__name__)
    if kind == "timedelta":
        return "datetime.timedelta(days=%d, seconds=%d, microseconds=%d)" % (item.days, item.seconds, item.microseconds)
    if kind in ("staticmethod", "classmethod"):
        return "<%s(%s)>" % (kind, text(item.__func__))
    return dialect.text(item)


def lines_of(traceback):
    lines = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        lines.append("%s:%d in %s" % (code.co_filename, traceback.tb_lineno, name))
        traceback = traceback.tb_next
    return lines


def texts(named):
    return dict((name, text(value)) for name, value in named)


def items_of(item):
    if isinstance(item, dict):
        return [[text(key), text(dict.__getitem__(item, key))] for key in dialect.keys(item)]
    if isinstance(item, (tuple, list, set, frozenset, collections.deque)):
        return [[text(each)] for each in item]
    return None


def function_fields(item):
    fields = {"qualname": dialect.qualname(item), "module": item.__module__, "file": item.__code__.co_filename,
              "line": str(item.__code__.co_firstlineno)}
    if item.__defaults__:
        fields["defaults"] = text(item.__defaults__)
    if item.__closure__:
        fields["closure"] = ", ".join(item.__code__.co_freevars)
    return fields


def generator_fields(name, item):
    prefix = {"generator": "gi_", "coroutine": "cr_", "async_generator": "ag_"}[type(item).__name__]
    code, frame = getattr(item, prefix + "code"), getattr(item, prefix + "frame")
    states = {"created": "created", "suspended": "suspended", "running": "running", "finished": "closed"}
    fields = {"state": states[name.split()[0]]}
    if frame is not None:
        fields.update({"file": code.co_filename, "line": str(frame.f_lineno)})
    return fields


def fields_of(name, item):
    kind = type(item).__name__
    if kind == "function":
        return function_fields(item)
    if kind == "code":
        return {"name": item.co_name, "file": item.co_filename, "line": str(item.co_firstlineno),
                "varnames": ", ".join(item.co_varnames), "arguments": str(item.co_argcount)}
    if kind == "frame":
        return {"function": item.f_code.co_name, "file": item.f_code.co_filename, "line": str(item.f_lineno)}
    if kind in ("generator", "coroutine", "async_generator"):
        return generator_fields(name, item)
    if kind == "module":
        fields = {"name": item.__name__}
        return dict(fields, file=item.__file__) if getattr(item, "__file__", None) else fields
    if isinstance(item, type):
        return {"bases": ", ".join(base.__name__ for base in item.__bases__)}
    if kind == "property":
        return {"get": text(item.fget)}
    return dialect.fields_of(item)


def describe(name, item):
    return {"name": name, "address": "0x%x" % id(item), "type": dialect.type_name(type(item)),
            "bytes": sys.getsizeof(item), "text": text(item), "items": items_of(item),
            "attributes": texts((n, getattr(item, n)) for n in NAMES if hasattr(item, n))
            if type(item) in CLASSES else None,
            "locals": texts(item.f_locals.items()) if type(item).__name__ == "frame" else None,
            "fields": fields_of(name, item)}


def write(path, samples):
    entries = [describe(name, item) for name, item in sorted(samples.items())]
    with open(path, "w") as file:
        json.dump(entries, file, indent=1)
