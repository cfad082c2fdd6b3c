"""The samples that only CPython 3 has, and what is asked of it in its own way. See samples.py."""

import functools
import sys
import types
from _thread import allocate_lock, start_new_thread

try:
    import asyncio
except ImportError:  # small_zoo.py does without
    asyncio = None

KEPT = []
TEXTS = {}  # by id: what is not to be asked, since asking would change it


@functools.lru_cache(maxsize=100)
def cached(number):
    return number * 2


async def waiting(future):
    note = "waits"
    await future
    return note


async def adding(first, second):
    return first + second


async def refusing():
    raise ValueError("refused")


async def numbering():
    yield 1
    yield 2


def make():
    yield "surrogates", "lone \udc80 \ud800"
    for name, wide in wide_texts():
        yield name, wide
    yield "texts", ["caf\xe9", "\u20ac", "\U0001f40d"]
    for i in (1, 2, 3, 1):
        cached(i)
    yield "lru cache", cached
    unbounded = functools.lru_cache(maxsize=None)(abs)
    unbounded(-1)
    yield "unbounded lru cache", unbounded
    yield "chained exception", caught_chain()
    yield "mapping proxy", types.MappingProxyType({"a": 1})
    yield "large range", range(0, 10 ** 30, 7)
    yield "created coroutine", waiting(None)
    yield "created async generator", numbering()
    if asyncio:
        for name, item in make_futures():
            yield name, item


def make_futures():
    """Of a loop that has run, with tasks in each state."""
    loop = asyncio.new_event_loop()
    KEPT.append(loop)
    pending, done, failed = loop.create_future(), loop.create_future(), loop.create_future()
    done.set_result([1, 2])
    failed.set_exception(ValueError("failed"))
    cancelled = loop.create_future()
    cancelled.cancel()
    tasks = [loop.create_task(made) for made in (waiting(pending), adding(1, 2), refusing())]
    KEPT.append(tasks)
    # Not asyncio.wait(), which frees an iterator of a future: with one on its free list 3.12.1 never ends its traversal.
    loop.call_soon(loop.stop)
    loop.run_forever()
    for name, future in (("pending", pending), ("done", done), ("failed", failed), ("cancelled", cancelled)):
        yield name + " future", future
    for name, task in zip(("pending", "done", "failed"), tasks):
        yield name + " task", task
    yield "suspended coroutine", coroutine_of(tasks[0])
    yield "finished coroutine", coroutine_of(tasks[1])


def coroutine_of(task):
    return task.get_coro() if hasattr(task, "get_coro") else task._coro


def wide_texts():
    """To 3.11 a str may have a copy of its text as wchar_t, or that alone."""
    try:
        import ctypes
        make, wide_of = ctypes.pythonapi.PyUnicode_FromUnicode, ctypes.pythonapi.PyUnicode_AsUnicode
    except (ImportError, AttributeError):
        return
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_ssize_t]
    wide_of.restype, wide_of.argtypes = ctypes.c_void_p, [ctypes.py_object]
    for name, text in (("ascii", "wide"), ("bmp", "\u20ac wide"), ("astral", "\U0001f40d wide")):
        both = text + " too"
        wide_of(both)
        yield "%s text, wide too" % name, both
        only = make(None, len(text))
        ctypes.memmove(wide_of(only), text.encode("utf-32-le"), 4 * len(text))
        TEXTS[id(only)] = repr(text)
        yield "%s text, wide only" % name, only


def caught_chain():
    try:
        try:
            {}["absent"]
        except KeyError as error:
            raise ValueError("chained") from error
    except ValueError as error:
        return error


# ---- what is true of them --------------------------------------------------------------------------------------------

def qualname(function):
    return function.__qualname__


def type_name(cls):
    return "%s.%s" % (cls.__module__, cls.__qualname__)


def is_future(item):
    return asyncio is not None and isinstance(item, asyncio.Future)


def keys(item):
    return iter(item)


def text(item):
    if is_future(item):
        return object.__repr__(item)
    return repr(item)


def fields_of(item):
    kind = type(item).__name__
    if is_future(item):
        return future_fields(item)
    if isinstance(item, BaseException):
        return exception_fields(item)
    if kind == "memoryview":
        return {"length": str(item.nbytes), "object": repr(item.obj)}
    if kind == "_lru_cache_wrapper":
        info = item.cache_info()
        return {"function": repr(item.__wrapped__), "hits": str(info.hits), "misses": str(info.misses),
                "maxsize": str(info.maxsize), "entries": str(info.currsize)}
    return {}


def exception_fields(item):
    import samples
    fields = {"args": repr(item.args)}
    if item.__traceback__ is not None:
        fields["traceback"] = "; ".join(samples.lines_of(item.__traceback__))
    for name in ("cause", "context"):
        if getattr(item, "__%s__" % name) is not None:
            fields[name] = samples.text(getattr(item, "__%s__" % name))
    return fields


def future_fields(item):
    import samples
    fields = {"state": item._state.lower()}
    if item.done() and not item.cancelled():
        error = item.exception()
        fields.update({"exception": samples.text(error)} if error is not None else {"result": repr(item.result())})
    if isinstance(item, asyncio.Task):
        fields["coroutine"] = repr(coroutine_of(item))
        if sys.version_info >= (3, 8):
            fields["name"] = item.get_name()
    return fields
