"""What each story shares: it says "ready" when its memory is as the story has it, and after SIGUSR1 applies the cure and
writes what that gave back. So the truth about a cause is what the process itself regains when the cause is gone.

    python STORY.py TRUTH_FILE

TRUTH_FILE then holds one JSON object: what the story says of itself, and
  freed_bytes     bytes that were in use in small blocks and in malloc's chunks, and are not any more
  arena_bytes     bytes of obmalloc's arenas that went back to the system
  resident_bytes  by how much the resident memory fell
"""

import ctypes
import gc
import json
import os
import re
import signal
import sys
import tempfile

LIBC = ctypes.CDLL(None)
PAGE = os.sysconf("SC_PAGE_SIZE")


class MallInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]


LIBC.mallinfo2.restype = MallInfo


def small_blocks():
    """(bytes in use in small blocks, bytes of their arenas), as the interpreter prints them."""
    with tempfile.TemporaryFile() as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            sys._debugmallocstats()
        finally:
            os.dup2(before, 2)
            os.close(before)
        file.seek(0)
        text = file.read().decode()
    in_use = re.search(r"# bytes in allocated blocks *= *([\d,]+)", text)
    arenas = re.search(r"\d+ arenas \* (\d+) bytes/arena *= *([\d,]+)", text)
    return tuple(int(match.group(match.lastindex).replace(",", "")) for match in (in_use, arenas))


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


def measure():
    in_blocks, arenas = small_blocks()
    info = LIBC.mallinfo2()
    return {"freed_bytes": in_blocks + info.uordblks + info.hblkhd, "arena_bytes": arenas, "resident_bytes": resident()}


def tell(cure, **known):
    """Waits, cures, and writes."""
    measure()  # what this itself takes the first time is none of the story's
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.write(1, b".")
    signal.sigwait([signal.SIGUSR1])
    before = measure()
    cure()
    after = measure()
    known.update((name, before[name] - after[name]) for name in before)
    partial = sys.argv[1] + ".partial"
    with open(partial, "w") as file:
        json.dump(known, file)
    os.rename(partial, sys.argv[1])
    signal.pause()
