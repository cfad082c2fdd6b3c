"""A peak of buffers was freed, and glibc keeps the memory: a small block at the end of its heap holds the rest in place."""

import ctypes

import story

LIBC = ctypes.CDLL(None)
LIBC.malloc.restype = ctypes.c_void_p
LIBC.malloc.argtypes = [ctypes.c_size_t]
LIBC.free.argtypes = [ctypes.c_void_p]
LIBC.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

blocks = []
for _ in range(1000):
    block = LIBC.malloc(100000)
    LIBC.memset(block, 1, 100000)
    blocks.append(block)
last = LIBC.malloc(100000)
for block in blocks:
    LIBC.free(block)
del blocks
story.tell(lambda: LIBC.malloc_trim(0))
