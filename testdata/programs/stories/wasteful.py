"""Rows that were parsed one by one: each has strings of its own, though there are few different ones."""

import story

STATES = ["waiting for the carrier", "delivered to the neighbour", "returned to the sender"]


def work():
    rows = [(str(number), "".join([STATES[number % 3], ", as seen on the ", "%02d" % (number % 30)] * 5)) for number in range(50000)]

    def cure():
        seen = {}
        rows[:] = [(key, seen.setdefault(text, text)) for key, text in rows]

    story.tell(cure)


work()
