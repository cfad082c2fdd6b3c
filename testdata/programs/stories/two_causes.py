"""Two causes at once: a cache that nobody bounds, and, smaller, cycles that wait for the collector."""

import functools
import gc

import story


class Renderer:
    def __init__(self, name):
        self.name = name

    @functools.lru_cache(maxsize=None)
    def render(self, number):
        return ("<p>%s %d</p>" % (self.name, number)) * 60


class Node:
    def __init__(self):
        self.payload = bytearray(60000)
        self.self = self


gc.disable()
for number in range(60000):
    Renderer("r%d" % (number % 100)).render(number)
for _ in range(400):
    Node()


def cure():
    Renderer.render.cache_clear()
    cure.freed = story.measure()["freed_bytes"]
    gc.collect()


story.tell(cure, path="__main__.Renderer.render", cycles_bytes=400 * 60000)
