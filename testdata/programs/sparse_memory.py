"""Two allocators whose peak is over: small objects that pin nearly empty arenas, and buffers that pin pages of malloc's.

Run as `python -S sparse_memory.py FOLDER`. What _debugmallocstats, mallinfo2 and the kernel say is written to standard
error and FOLDER/truth.json, and one byte to standard output. On SIGUSR1 the pinning objects are dropped, malloc_trim is
called, what they say then is written too, and FOLDER/done is made. Works with 2.7 and 3.x.
"""

import ctypes
import gc
import json
import os
import signal
import sys

SMALL = 300000
EACH_SMALL = 600
BUFFERS = 40000
EACH_BUFFER = 16
BUFFER_BYTES = 900
FREED = 500


class TaskResult(object):
    def __init__(self, number):
        self.number = number
        self.name = "task %d of many" % number


class MallocInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]


libc = ctypes.CDLL(None)
mallinfo = getattr(libc, "mallinfo2", None)
if mallinfo is not None:
    mallinfo.restype = MallocInfo


class Survivors(object):
    pass


def fill(survivors):
    filling = []
    survivors.results = []
    for number in range(SMALL):
        filling.append((number, "filling %d" % number))
        if number % EACH_SMALL == 0:
            survivors.results.append(TaskResult(number))
    survivors.buffers = []
    for number in range(BUFFERS):
        buffer = bytearray(BUFFER_BYTES)
        (survivors.buffers if number % EACH_BUFFER == 0 else filling).append(buffer)


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def look():
    gc.collect()
    libc.malloc_trim(0)
    info = mallinfo() if mallinfo is not None else None
    return {"resident": resident_bytes(), "in_use": info.uordblks if info else None}


def say(name):
    if hasattr(sys, "_debugmallocstats"):
        os.write(2, ("=== %s\n" % name).encode())
        sys._debugmallocstats()
        sys._debugmallocstats()  # twice, so that the reader can tell that measuring changes nothing


def on_signal(number, frame):
    del survivors.results[:]
    looks["without results"] = look()
    say("without results")
    del survivors.buffers[:]
    looks["without buffers"] = look()
    write("done")


def write(name):
    path = os.path.join(sys.argv[1], name)
    with open(path + ".new", "w") as file:
        json.dump({"looks": looks, "results": len(survivors.results), "buffers": len(survivors.buffers)}, file)
    os.rename(path + ".new", path)


survivors = Survivors()
fill(survivors)
looks = {"full": look()}
signal.signal(signal.SIGUSR1, on_signal)
write("truth.json")
gc.collect()
freed = [(number, number) for number in range(FREED)]  # the interpreter keeps them for the next tuples
del freed
say("full")
os.write(1, b"x")
while True:
    signal.pause()
