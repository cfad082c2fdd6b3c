"""What only CPython 3 has, or can parse, of the zoo. zoo.py says what is done with it."""

import asyncio
import collections
import datetime
import enum
import functools
import sys
import types
import typing
import _thread as thread

try:
    import contextvars
    import dataclasses
except ImportError:  # 3.6
    contextvars = dataclasses = None

intern = sys.intern


class Meta(type):
    pass


class Keyword(metaclass=Meta):
    pass


class Generic(typing.Generic[typing.TypeVar("T")]):
    pass


if dataclasses:
    @dataclasses.dataclass
    class Row:
        key: int
        name: str
        tags: list

    @dataclasses.dataclass(**({"slots": True} if sys.version_info >= (3, 10) else {}))
    class SlotRow:
        key: int
        name: str


class Colour(enum.Enum):
    RED = 1
    GREEN = 2
    BLUE = 3


class Level(enum.IntEnum):
    LOW = 10
    HIGH = 20


def make_user_objects(keep, made, n):
    keep(Keyword, lambda i: Keyword(), n)
    made(Meta, 1)
    keep(Generic, lambda i: Generic[int](), n)
    if dataclasses:
        keep(Row, lambda i: Row(i, "row", [i]), 3 * n)
        keep(SlotRow, lambda i: SlotRow(i, "slot"), 3 * n)
    made(Colour, 3)
    made(Level, 2)


def make_builtins(n):
    async def coroutine(x):
        await asyncio.sleep(x)

    async def async_generator(x):
        yield x

    caches = [functools.lru_cache(maxsize=100)(hash), functools.lru_cache(maxsize=None)(abs)]
    for cached in caches:
        for i in range(300):
            cached(i)
    kept = [caches, [coroutine(i) for i in range(n // 4)], [async_generator(i) for i in range(n // 4)],
            collections.ChainMap({}, {}), types.MappingProxyType({1: 2}), types.SimpleNamespace(a=1), asyncio.Queue,
            datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc)]
    if contextvars:
        kept += [contextvars.ContextVar("var"), contextvars.copy_context()]
    return kept


def to_free():
    """Objects of kinds that the interpreter keeps for reuse once they are freed."""
    return [contextvars.Context() for _ in range(300)] if contextvars else []
