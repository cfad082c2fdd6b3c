"""Threads that share objects: small, for a core of a free-threaded build (3.13+), where each thread has heaps of its own.

    python three_threads.py TRUTH_FILE FOLDER_OF_TRUTH_PY

One thread has ended, and left its heaps with what is still alive in them to whoever wants them; one waits, and some of
what it made was freed by another thread; some objects have been freed and wait on the interpreter's free lists.
"""

import _signal
import _thread
import gc
import os
import sys

ENDED, WAITING, MAIN, FREED = 300, 200, 100, 50


class OfEnded:
    def __init__(self, i):
        self.number = i


class OfWaiting:
    def __init__(self, i):
        self.text = "made by a thread that waits, %d" % i


class OfMain:
    __slots__ = ("pair",)

    def __init__(self, i):
        self.pair = (i * 1.5, [i])


kept = {}
made = {}
ready = _thread.allocate_lock()
for_ever = _thread.allocate_lock()


def end():
    kept["ended"] = [OfEnded(i) for i in range(ENDED)]


def wait():
    kept["waiting"] = [OfWaiting(i) for i in range(WAITING)]
    ready.release()
    for_ever.acquire()


def work():
    _thread.start_joinable_thread(end).join()
    ready.acquire()
    for_ever.acquire()
    _thread.start_new_thread(wait, ())
    ready.acquire()
    kept["main"] = [OfMain(i) for i in range(MAIN)]
    for maker in ("ended", "waiting"):
        del kept[maker][:FREED]
    gc.collect()  # what others dropped of a thread's would live until that thread runs again


def main():
    gc.disable()
    work()
    sys.path.insert(0, sys.argv[2])
    import truth
    fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    made.update({OfEnded: ENDED - FREED, OfWaiting: WAITING - FREED, OfMain: MAIN})
    truth.write_settled(fd, made, with_reachable=False)
    truth.say_and_sleep(_signal.pause)


if __name__ == "__main__":
    main()
