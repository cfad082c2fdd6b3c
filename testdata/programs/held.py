"""Objects that are held in one way each.

    python held.py DIRECTORY [LIBRARY]

writes DIRECTORY/held.json: "held", {name of a way: [address, the path that leads there, or null]}, and waits. In a path
FILE stands for "file", LINE for the line where the function stands, which "lines" says by its name, TID for a thread's
id, and ADDRESS for the object's. LIBRARY is held_by_c.c, compiled.
"""

import atexit
import collections
import functools
import json
import os
import signal
import sys
import threading
import time
import weakref

try:
    import asyncio
    import contextvars
except ImportError:
    asyncio = contextvars = None
try:
    import ctypes
except ImportError:
    ctypes = None

try:
    import sqlite3
except ImportError:
    sqlite3 = None

from site_numpy import numpy

__metaclass__ = type  # for 2.7

HELD = {}  # way -> (address, path)
LINES = {}
ready = []


class Thing:
    """What is held; one for each way."""


class Registry:
    instances = []

    def __init__(self):
        Registry.instances.append(self)


class Link:
    def __init__(self, following):
        self.following = following


class Box:
    pass


class Slotted:
    __slots__ = ("content",)


def thing(way, path):
    made = Thing()
    HELD[way] = id(made), path
    return made


def make_closure():
    captured = thing("closure", "__main__.closure.__closure__[0].cell_contents")

    def call():
        return captured
    return call


def with_default(x=thing("default", "__main__.with_default.__defaults__[0]")):
    return x


def decorated(function):
    function.attribute = thing("function attribute", "__main__.plain.attribute")
    return function


@decorated
def plain():
    pass


def generate():
    local = thing("generator", "__main__.generator -> local local in generate (FILE:LINE)")
    LINES["generate"] = sys._getframe().f_lineno + 1
    yield 1
    del local


def noted_on_exit(x):
    pass


def hold_in_thread():
    in_thread = thing("local of a thread", "local in_thread in hold_in_thread (FILE:LINE)")
    ready.append(1)
    LINES["hold_in_thread"] = sys._getframe().f_lineno + 1
    time.sleep(10000)
    del in_thread


async_source = """
async def work():
    payload = thing("task", ".coro of task 'the worker' -> local payload in work (<async>:5)")
    ready.append(1)
    await asyncio.sleep(10000)
    del payload

async def main():
    task = asyncio.ensure_future(work())
    if hasattr(task, "set_name"):
        task.set_name("the worker")
    await task
"""


def run_tasks():
    namespace = {"thing": thing, "ready": ready, "asyncio": asyncio}
    exec(compile(async_source, "<async>", "exec"), namespace)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(namespace["main"]())


def start(*targets):
    for target in targets:
        thread = threading.Thread(target=target)
        thread.daemon = True
        thread.start()
    while len(ready) < len(targets):
        time.sleep(0.01)
    time.sleep(0.2)


def hold_by_c(path):
    library = ctypes.CDLL(path)
    library.hold.argtypes = library.hold_on_stack.argtypes = [ctypes.c_void_p]
    increment = ctypes.pythonapi.Py_IncRef
    increment.argtypes = [ctypes.py_object]
    held = thing("C static", "static held_by_c in held_by_c.so")
    increment(held)
    library.hold(id(held))
    held = thing("native stack", "native stack of thread TID")
    increment(held)

    def hold_on_stack(address=id(held)):
        LINES["TID"] = library.thread_id()
        ready.append(1)
        library.hold_on_stack(address)
    return hold_on_stack


def in_main_function():
    only_here = thing("local of a function", "local only_here in in_main_function (FILE:LINE)")
    box = Box()
    box.content = thing("through a local", "local box in in_main_function (FILE:LINE).content")
    os.write(1, b"r")
    LINES["in_main_function"] = sys._getframe().f_lineno + 2
    write_truth()
    signal.pause()
    del only_here, box


def write_truth():
    with open(os.path.join(sys.argv[1], "held.part"), "w") as file:
        json.dump({"held": HELD, "lines": LINES, "file": __file__}, file)
    os.rename(file.name, os.path.join(sys.argv[1], "held.json"))


module_global = thing("global", "__main__.module_global")
in_list = [None, [thing("list", "__main__.in_list[1][0]")]]
in_dict = {"key": thing("dict", "__main__.in_dict[<str>]"), 7: thing("int key", "__main__.in_dict[7]")}
as_key = {thing("dict key", "__main__.as_key -> key <key at ADDRESS>"): 1}
in_set = {thing("set", "__main__.in_set -> member")}
in_tuple = (1, (thing("tuple", "__main__.in_tuple[1][0]"),))
in_deque = collections.deque([0, thing("deque", "__main__.in_deque[1]")])
partial = functools.partial(plain, thing("partial", "__main__.partial.args[0]"))
box = Box()
box.content = thing("attribute", "__main__.box.content")
slotted = Slotted()
slotted.content = thing("slot", "__main__.slotted.content")
registered = Registry()
HELD["registry"] = id(registered), "__main__.Registry.instances[0]"
del registered
bound = Box()
bound.content = thing("weak and strong", "__main__.bound.content")
weak = [weakref.ref(bound.content)]
sys.made_up = thing("attribute of sys", "sys.made_up")
os.path.made_up = thing("attribute of a module", "posixpath.made_up")
generator = generate()
next(generator)
closure = make_closure()
chain = None
for _ in range(5000):
    chain = Link(chain)
for _ in range(100):
    Registry()
atexit.register(noted_on_exit, thing("atexit", None))
local_data = threading.local()
local_data.x = thing("thread-local", None)
if contextvars is not None:
    variable = contextvars.ContextVar("variable")
    variable.set(thing("context variable", None))
if sqlite3 is not None:
    connection = sqlite3.connect(":memory:")
    connection.create_function("made_up", 1, functools.partial(plain, thing("sqlite function", None)))
    connection.row_factory = functools.partial(plain, thing("sqlite row factory", None))
if numpy is not None:
    array = numpy.array([None, thing("numpy array", "__main__.array[1]")], dtype=object)
    grid = numpy.array([[None, thing("numpy grid", "__main__.grid.flat[1]")]], dtype=object)
    inner = numpy.dtype([("a", "i2"), ("b", object, (2,))])
    records = numpy.zeros(3, dtype=[("n", "i4"), ("object", object), ("inner", inner)])
    records["object"][1] = thing("numpy records", "__main__.records[1]")
    records["inner"]["b"][2][1] = thing("numpy records within records", "__main__.records[2]")

if __name__ == "__main__":
    waiting = [hold_in_thread]
    if asyncio is not None:
        waiting.append(run_tasks)
    if ctypes is not None and sys.argv[2:]:
        waiting.append(hold_by_c(sys.argv[2]))
    start(*waiting)
    del waiting
    in_main_function()
