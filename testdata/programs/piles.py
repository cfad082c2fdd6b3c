"""Memory that piles up in one place each, in ways that differ; in all of them 16 MiB or more.

    python piles.py

It writes "ready" when all is there.
"""

import os
import queue
import sys
import types

NUMBER = 4000
BYTES = 4500


class Record:
    def __init__(self):
        self.data = bytearray(BYTES)


class Service:
    """Its one instance is a global."""

    def __init__(self):
        self.seen = {}
        self.jobs = queue.Queue()


class Node:
    """Of a linked list."""


service = Service()
other = sys.modules["other"] = types.ModuleType("other")
other.by_name = {}
everything = []
head = None


def fill():
    global head
    for number in range(NUMBER):
        service.seen[number] = Record()
        service.jobs.put({"number": number, "data": bytearray(BYTES)})
        shared = Record()
        everything.append(shared)
        other.by_name[str(number)] = shared
        node = Node()
        node.next, node.data, head = head, bytearray(BYTES), node


fill()
os.write(1, b"R")
while True:
    os.read(0, 1) or __import__("time").sleep(1000)
