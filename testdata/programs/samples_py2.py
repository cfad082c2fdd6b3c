"""The samples that only CPython 2.7 has, and what is asked of it in its own way. See samples.py."""

import gc
from thread import allocate_lock, start_new_thread

TEXTS = {}


class Small(object):
    __slots__ = ()  # no descriptors in its dict
    number = 1


class Old:
    def __init__(self):
        self.number = 1

    def method(self):
        return self


def make():
    yield "old class", Old
    yield "old instance", Old()
    yield "old method", Old().method
    yield "unbound method", Old.method
    proxy = Small.__dict__
    TEXTS[id(proxy)] = "dictproxy(%r)" % gc.get_referents(proxy)[0]
    yield "dict proxy", proxy
    yield "int", 1 << 40
    yield "long", 5 << 70
    yield "small long", long(5)  # noqa: F821
    yield "text", u"caf\xe9 \u20ac \U0001f40d"
    yield "surrogates", u"lone \udc80 \ud800"


# ---- what is true of them --------------------------------------------------------------------------------------------

type_module = type.__dict__["__module__"].__get__


def qualname(function):
    return function.__name__


def type_name(cls):
    return "%s.%s" % (type_module(cls), cls.__name__)


def keys(item):
    return dict.__iter__(item)


def text(item):
    """What heapcore says of classes written in Python is what their builtin bases say."""
    if isinstance(item, dict) and type(item).__module__ == "collections" and type(item).__name__ != "defaultdict":
        return dict.__repr__(item)
    if type(item).__name__ == "partial":
        return "functools.partial(%s)" % ", ".join(
            [repr(item.func)] + [repr(each) for each in item.args]
            + ["%s=%r" % pair for pair in (item.keywords or {}).items()])
    return repr(item)


def fields_of(item):
    return {"args": repr(item.args)} if isinstance(item, BaseException) else {}
