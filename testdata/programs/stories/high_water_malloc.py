"""The same in malloc's heap: of every page a head survives, and what is free between them is too small to go back."""

import ctypes

import story


class Page:
    __slots__ = ("head", "text")

    def __init__(self, number):
        self.text = bytearray(3000)
        self.head = bytearray(b"%08d" % number * 75)


pages = [Page(number) for number in range(25000)]
heads = [page.head for page in pages]
del pages
cache = heads


def cure():
    cache.clear()
    ctypes.CDLL(None).malloc_trim(0)


story.tell(cure, type="bytearray", path="__main__.heads", count=25000)
