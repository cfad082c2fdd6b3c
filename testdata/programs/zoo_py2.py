"""What only CPython 2.7 has of the zoo. zoo.py says what is done with it."""

import cStringIO
import collections
import thread

intern = intern  # a builtin


class OldStyle:
    """All instances of such classes are of one type, `instance`."""

    def __init__(self, i):
        self.number = i
        self.text = "old %d" % i

    def method(self):
        return self


class OldStyleToo(OldStyle):
    pass


class SlottedInt(int):
    __slots__ = ()


class LongChild(long):
    pass


class UnicodeChild(unicode):
    pass


class PlainUnicode(unicode):
    __slots__ = ()


class FileChild(file):
    pass


class WithMetaclass(object):
    class __metaclass__(type):
        pass


def make_user_objects(keep, made, n):
    keep(SlottedInt, SlottedInt, 2 * n)
    keep(LongChild, lambda i: LongChild(i << (i % 200)), 2 * n)
    keep(UnicodeChild, lambda i: UnicodeChild(u"child %d" % i), n)
    keep(PlainUnicode, lambda i: PlainUnicode(u"\u20ac%d " % i * (i % 60)), n)
    keep(FileChild, lambda i: FileChild("/dev/null"), 10)
    keep(WithMetaclass, lambda i: WithMetaclass(), n)
    made(type(WithMetaclass), 1)


def make_builtins(n):
    old = [OldStyle(i) for i in range(10 * n)]
    return [old, [OldStyleToo(i) for i in range(n)], [item.method for item in old[:n]], OldStyle.method,
            [long(i) for i in range(n)], [unicode(i) for i in range(n)], [unichr(i) for i in range(1000)],
            [chr(i) for i in range(256)], [u"x" * (i % 400) for i in range(n)], u"y" * 100000,
            xrange(10), iter(xrange(10)), buffer("text"), Ellipsis, cStringIO.StringIO(), cStringIO.StringIO("text"),
            open("/dev/null"), [i * 7919 for i in range(20 * n)][::3], collections.OrderedDict({"a": 1})]


def to_free():
    """Objects of kinds that the interpreter keeps for reuse once they are freed."""
    return [[unicode(i) for i in range(2000)], [u"x" * (i % 40) for i in range(2000)],
            [i * 104729 for i in range(3000)], [set([i]) for i in range(100)], [len, abs],
            [[].append for _ in range(300)]]
