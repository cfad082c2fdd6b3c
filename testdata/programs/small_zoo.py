"""A few objects of each kind in a process as small as can be, for the committed cores.

    python -S -E -B -OO small_zoo.py DIRECTORY

writes what zoo.py writes, and sleeps as it does. What would fill the core with more than it tells has stand-ins: the
modules that samples.py imports for a single kind of object, or for writing its file.
"""

import gc
import os
import signal
import sys


class Json:
    """All that is needed of the module."""

    @staticmethod
    def dump(value, file, indent=None):
        file.write(Json.text(value))

    @staticmethod
    def text(value):
        if value is None or value is True or value is False:
            return {None: "null", True: "true", False: "false"}[value]
        if isinstance(value, dict):
            return "{%s}" % ", ".join("%s: %s" % (Json.text(k), Json.text(v)) for k, v in value.items())
        if isinstance(value, (list, tuple)):
            return "[%s]" % ",\n".join(map(Json.text, value))
        if isinstance(value, str):
            return '"%s"' % "".join(map(Json.character, value))
        return str(value)

    @staticmethod
    def character(c):
        if " " <= c < "\x7f" and c not in '"\\':
            return c
        code = ord(c)
        if code < 0x10000:
            return "\\u%04x" % code
        code -= 0x10000
        return "\\u%04x\\u%04x" % (0xd800 + (code >> 10), 0xdc00 + (code & 0x3ff))


def stand_in():
    sys.modules["asyncio"] = sys.modules["ctypes"] = None
    sys.modules["json"] = Json
    try:
        import _datetime
        sys.modules["datetime"] = _datetime
    except ImportError:
        pass  # 2.7, where it is the module itself


stand_in()
import samples  # noqa: E402
import truth  # noqa: E402

__metaclass__ = type
COUNTS = {}  # class -> how many instances of exactly this class live
KEEP = {}


class Plain:
    def __init__(self, i):
        self.number = i + 1000000
        self.text = "plain %d" % i


class Slotted:
    __slots__ = ("a", "b", "__weakref__")

    def __init__(self, i):
        self.a = i
        self.b = (i,)


class IntChild(int):
    pass


class StrChild(str):
    pass


class ListChild(list):
    pass


class DictChild(dict):
    pass


class Meta(type):
    pass


class Survivor:
    """What is left of many: the others' places are holes."""

    def __init__(self, i):
        self.payload = b"x" * (i % 400)


class Node:
    def __init__(self):
        self.other = None


class Garbage(Node):
    """Unreachable, in cycles, not yet collected."""


WithMeta = Meta("WithMeta", (), {"__module__": __name__})


def keep(cls, make, count):
    KEEP[cls.__name__] = [make(i) for i in range(count)]
    COUNTS[cls] = count


def make_objects():
    keep(Plain, Plain, 200)
    keep(Slotted, Slotted, 150)
    keep(IntChild, lambda i: IntChild(i << 40), 40)
    keep(StrChild, lambda i: StrChild("child %d" % i), 40)
    keep(ListChild, lambda i: ListChild(range(i)), 30)
    keep(DictChild, lambda i: DictChild(a=i, b=Plain), 30)
    keep(WithMeta, lambda i: WithMeta(), 20)
    COUNTS[Meta] = 1
    KEEP["builtins"] = [[i * 1000003 for i in range(300)], [i / 3.0 for i in range(300)], [complex(i, 1) for i in range(20)],
                        dict((i, str(i)) for i in range(500)), set(range(300)), frozenset(range(50)), tuple(range(100)),
                        bytearray(700), b"y" * 3000, "x" * 3000, [{} for _ in range(20)], [(i,) for i in range(50)]]


def make_cycles():
    ring = [Node() for _ in range(30)]
    for i, node in enumerate(ring):
        node.other = ring[i - 1]
    KEEP["ring"] = ring[0]
    COUNTS[Node] = 30
    for _ in range(20):
        a, b = Garbage(), Garbage()
        a.other, b.other = b, a
    COUNTS[Garbage] = 40


def make_holes():
    many = [Survivor(i) for i in range(600)]
    KEEP["Survivor"] = [item for i, item in enumerate(many) if i * 7919 % 8 == 0]
    COUNTS[Survivor] = len(KEEP["Survivor"])
    blocks = [bytearray(520 + i * 61 % 9000) for i in range(60)]
    del blocks[::2]
    KEEP["blocks"] = blocks


def main():
    directory = sys.argv[1]
    gc.collect()
    gc.disable()
    make_objects()
    make_cycles()
    make_holes()
    KEEP["samples"] = samples.make()
    samples.write(os.path.join(directory, "samples.json"), KEEP["samples"])
    "".encode()  # the codec is looked up and kept
    fd = os.open(os.path.join(directory, "truth.json"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    truth.write_settled(fd, COUNTS)
    truth.say_and_sleep(signal.pause)


if __name__ == "__main__":
    main()
