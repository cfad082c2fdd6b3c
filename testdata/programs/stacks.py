"""Threads that wait in known places, and what the interpreter says of their frames.

    python stacks.py DIRECTORY

starts the threads and writes into DIRECTORY, before it sleeps,
    stacks.json  {"threads": [{"name", "native_id" (3.8+), "frames": [[function, file, line]]}], the innermost first,
                  "payloads": {thread's name: address of the list that only its local `payload` holds},
                  (of the thread "shares", two locals hold such a list together, and one of them is an argument as well)
                  "tasks": [{"name" (3.8+), "function", "line"}]}
"""

import json
import os
import signal
import sys
import threading
import time

import truth

FOREVER = threading.Event()
PAYLOADS = {}
TASKS = []


def make_payload():
    payload = [bytes(bytearray(10000)) for _ in range(20)]
    PAYLOADS[threading.current_thread().name] = id(payload)
    return payload


def wait_here():
    payload = make_payload()
    FOREVER.wait()
    return payload


def wait_in_key(item):
    FOREVER.wait()
    return item


def wait_in_sort():
    payload = make_payload()
    return sorted([2, 1], key=lambda item: wait_in_key(item)), payload


def wait_with(shared):
    FOREVER.wait()
    return shared


def wait_in_call():
    first = {"payload": [bytes(bytearray(10000)) for _ in range(20)]}
    second = {"payload": first["payload"]}
    return wait_with(second), first


def items():
    yield 1
    FOREVER.wait()
    yield 2


def wait_in_generator():
    payload = make_payload()
    return sum(items()), payload


def current_frames():
    names = {thread.ident: thread for thread in threading.enumerate()}
    rows = []
    for ident, frame in sys._current_frames().items():
        if ident == threading.current_thread().ident:
            continue
        frames = []
        while frame is not None:
            code = frame.f_code
            frames.append([getattr(code, "co_qualname", code.co_name), code.co_filename, frame.f_lineno])
            frame = frame.f_back
        thread = names[ident]
        rows.append({"name": thread.name, "native_id": getattr(thread, "native_id", None), "frames": frames})
    return sorted(rows, key=lambda row: row["name"])


def settled():
    """What is the same at two moments: then all wait."""
    before = None
    while True:
        now = current_frames()
        waiting = all(row["frames"][0][0].split(".")[-1] in ("wait", "select") for row in now)
        if now == before and waiting:
            return now
        before = now
        time.sleep(0.1)


def main():
    directory = sys.argv[1]
    for name, function in (("waits", wait_here), ("sorts", wait_in_sort), ("generates", wait_in_generator),
                           ("shares", wait_in_call)):
        thread = threading.Thread(target=function, name=name)
        thread.daemon = True
        thread.start()
    if sys.version_info >= (3, 7):
        import stacks_tasks
        stacks_tasks.start(TASKS)
    found = {"threads": settled(), "payloads": PAYLOADS}
    found["tasks"] = [{"name": task.get_name() if hasattr(task, "get_name") else None,
                       "function": coroutine.__qualname__ if hasattr(coroutine.cr_code, "co_qualname")
                       else coroutine.cr_code.co_name, "line": coroutine.cr_frame.f_lineno}
                      for task, coroutine in TASKS]
    with open(os.path.join(directory, "stacks.json"), "w") as file:
        json.dump(found, file)
    truth.say_and_sleep(signal.pause)


if __name__ == "__main__":
    main()
