"""What tracemalloc says of its own process, but for what is allocated here and in tracemalloc itself: after SIGUSR1
written as JSON to the file that the program's first argument names. Before that SIGUSR2 may ask for more.

  lineno, filename, traceback   lists of [frames, count, bytes], frames as [file, line], the most recent first
  changing                      likewise, lists of the frames whose figures changed after that: what the interpreter does
                                to wait and to wake up may free what it made before
  peak                          tracemalloc.get_traced_memory()[1]
"""

import _signal  # signal.sigwait() is in Python, and allocates
import collections
import gc
import json
import os
import signal
import sys
import tracemalloc

OWN = (tracemalloc.__file__, __file__)


def sums(traces, key):
    totals = collections.defaultdict(lambda: [0, 0])
    for trace in traces:
        if not any(filename in OWN for filename, _ in trace[2]):
            total = totals[key(trace[2])]
            total[0] += 1
            total[1] += trace[1]
    return [[list(frames)] + total for frames, total in totals.items()]


def tell(more):
    signals = [signal.SIGUSR1, signal.SIGUSR2]
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    if not tracemalloc.is_tracing():
        os.write(1, b".")
        signal.pause()
    tracemalloc.take_snapshot()  # what that itself takes the first time
    gc.disable()
    gc.collect()
    peak = tracemalloc.get_traced_memory()[1]
    snapshot = tracemalloc.take_snapshot()
    os.write(1, b".")
    while _signal.sigwait(signals) == signal.SIGUSR2:
        more()
        os.write(1, b".")
    traces, later = snapshot.traces._traces, tracemalloc.take_snapshot().traces._traces  # (domain, size, frames ...)
    keys = {"lineno": lambda frames: frames[:1], "filename": lambda frames: ((frames[0][0], 0),),
            "traceback": lambda frames: frames}
    told = {"peak": peak, "changing": {}}
    for by, key in keys.items():
        told[by] = sums(traces, key)
        after = sums(later, key)
        told["changing"][by] = [site[0] for site in told[by] if site not in after]
    with open(sys.argv[1] + ".partial", "w") as file:
        json.dump(told, file)
    os.rename(sys.argv[1] + ".partial", sys.argv[1])
    signal.pause()
