"""A worker that renders invoices, and leaks: the class keeps every instance it ever made.

    python leaky_worker.py [TRUTH_FILE FOLDER_OF_TRUTH_PY]

Three things can be found in its heap, as in many a real one:
  - `Processor.instance_map`, a registry on the class, holds every Processor, and through it their orders and documents;
  - a `View` and its `Accessor` refer to each other, so those that were dropped wait for the collector;
  - a peak is over: most of a large batch was freed, and the few that survive keep its memory from going back.

With TRUTH_FILE it then writes what the interpreter says of its heap (see truth.py) and sleeps.
"""

import gc
import os
import signal
import sys


class Order:
    __slots__ = ("number", "customer", "items", "total")

    def __init__(self, number):
        self.number = number
        self.customer = "customer-%04d" % (number % 500)
        self.items = [("article-%d" % (number * 7 % 90 + k), k + 1, 1.25 * k) for k in range(number % 5 + 1)]
        self.total = sum(price * count for _, count, price in self.items)


class Processor:
    instance_map = {}

    def __init__(self, job_id, order):
        self.job_id = job_id
        self.order = order
        self.options = {"currency": "EUR", "attempt": job_id % 3, "reference": "R%06d" % job_id}
        self.document = self.render()
        Processor.instance_map[job_id] = self

    def render(self):
        lines = ["<tr><td>%s</td><td>%d</td><td>%.2f</td></tr>" % item for item in self.order.items]
        return ("<html><h1>Invoice %d</h1><table>%s</table></html>" % (self.order.number, "".join(lines) * 8)).encode()


class Accessor:
    def __init__(self, view):
        self.view = view


class View:
    """What a template sees of an order."""

    def __init__(self, order):
        self.rows = bytearray(b"row " * 200)
        self.order_number = order.number
        self.fields = Accessor(self)


class BatchRow:
    def __init__(self, i):
        self.key = i
        self.text = "row %d of the nightly batch" % i


JOBS = 500
VIEWS = 120
BATCH_ROWS = 3500
SURVIVOR_EVERY = 53

survivors = []
made = {}


def work():
    for job_id in range(JOBS):
        order = Order(100000 + job_id)
        Processor(job_id, order)
        if job_id < VIEWS:
            View(order)


def nightly_batch():
    rows = [BatchRow(i) for i in range(BATCH_ROWS)]
    survivors.extend(rows[::SURVIVOR_EVERY])


def main():
    gc.disable()  # "it was faster"
    work()
    nightly_batch()
    if len(sys.argv) == 3:
        sys.path.insert(0, sys.argv[2])
        import truth
        fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        made.update({Processor: JOBS, Order: JOBS, View: VIEWS, Accessor: VIEWS, BatchRow: len(survivors)})
        truth.write_settled(fd, made, with_reachable=False)
        truth.say_and_sleep(signal.pause)
    signal.pause()


if __name__ == "__main__":
    main()
