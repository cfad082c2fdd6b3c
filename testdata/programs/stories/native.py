"""A C library allocates for every call, and forgets."""

import ctypes

import story

LIBC = ctypes.CDLL(None)
LIBC.malloc.restype = ctypes.c_void_p
LIBC.malloc.argtypes = LIBC.free.argtypes = [ctypes.c_size_t]
LIBC.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

# What it forgot is known here as a distance from the first, which is no pointer to anything.
first = LIBC.malloc(1024)
distances = []
for _ in range(40000):
    block = LIBC.malloc(1024)
    LIBC.memset(block, 7, 1024)
    distances.append(block - first)


def cure():
    for distance in distances:
        LIBC.free(first + distance)


story.tell(cure)
