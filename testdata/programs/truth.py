"""What an interpreter says of its own heap, measured so that the measuring does not show.

Why what is measured is still true of the process when it sleeps:
  - The caller turns the collector off, and imports, opens and binds before whatever measuring needs. Measuring is
    repeated until it says the same twice: before that it warms caches, such as those that code gets in its 1024th call.
  - Measuring keeps nothing: its list is not in its own result, its counting dicts hold only integers and so are never
    tracked, and the running functions have no frame objects (CPython 3.11 and later make them on demand).
  - malloc_info() writes to an unbuffered stream opened before. ctypes needs small blocks only, which are pymalloc's,
    and has returned them when the call ends. Twice, and equal, proves it.
  - _debugmallocstats() writes with the C library to an unbuffered stream and allocates nothing. After it come only
    calls of bound builtins with prepared arguments, whose results are None or a small integer.

Imports nothing that is not built into the interpreter, so that a small program stays small.
"""

import gc
import os
import sys

MEASUREMENTS = 12
STATIC = []  # static_ranges()

CodeType = type((lambda: None).__code__)
DESCRIPTOR_TYPES = (type(str.join), type(dict.__dict__["fromkeys"]), type(str.__add__), type(CodeType.co_name),
                    type(CodeType.co_consts), type(type.__dict__["__doc__"]))
type_name = type.__dict__["__qualname__" if sys.version_info >= (3, 3) else "__name__"].__get__
type_module = type.__dict__["__module__"].__get__
type_bases = type.__dict__["__bases__"].__get__
type_mro = type.__dict__["__mro__"].__get__


def name_of(cls):
    try:
        module = type_module(cls)
    except AttributeError:
        module = None
    return module if isinstance(module, str) else "", type_name(cls)


def rows(counts, sizes, classes):
    merged = {}
    for key, count in counts.items():
        row = merged.setdefault(name_of(classes[key]), [0, 0])
        row[0] += count
        row[1] += sizes.get(key, 0)
    return [{"module": m, "name": n, "count": c, "bytes": b} for (m, n), (c, b) in sorted(merged.items())]


def class_table():
    """Every type by its id: so that counting needs no dict with types in it, which would be tracked."""
    table, stack = {}, [object]
    while stack:
        cls = stack.pop()
        if id(cls) not in table:
            table[id(cls)] = cls
            stack.extend(type.__subclasses__(cls))
    return table


def count_tracked(getsizeof=sys.getsizeof):
    counts, sizes = {}, {}
    for item in gc.get_objects():
        key = id(type(item))
        counts[key] = counts.get(key, 0) + 1
        sizes[key] = sizes.get(key, 0) + getsizeof(item)
    del item
    return counts, sizes


def count_reachable(static, getsizeof=sys.getsizeof):
    counts, sizes, seen = {}, {}, {}
    if sys.version_info < (3, 7):
        pass_over_frames(seen)
    stack = gc.get_objects()
    while stack:
        item = stack.pop()
        address = id(item)
        if address in seen:
            continue
        seen[address] = 1
        stack.extend(gc.get_referents(item))
        # What these hold and tp_traverse does not visit.
        if isinstance(item, dict):
            stack.extend(dict.keys(item))
        elif type(item) is CodeType:
            stack.extend(held_by_code(item))
        elif type(item) in DESCRIPTOR_TYPES:
            stack.append(item.__name__)
        elif isinstance(item, type):  # a static one is not traversed at all
            stack.extend((type_bases(item), type_mro(item)))
        if is_static(address, static):
            continue
        key = id(type(item))
        counts[key] = counts.get(key, 0) + 1
        sizes[key] = sizes.get(key, 0) + getsizeof(item)
    return counts, sizes


def pass_over_frames(seen):
    """To 3.6 the frames of running functions are tracked, and those of this module lead to all that measuring makes."""
    frame = sys._getframe(1)
    while frame.f_globals is globals():
        seen[id(frame)] = 1
        frame = frame.f_back


def held_by_code(code):
    """What a code object holds, but for a tuple of these names and a bytes object that no attribute shows."""
    names = code.co_varnames + code.co_cellvars + code.co_freevars
    attributes = ("co_consts", "co_names", "co_filename", "co_name", "co_qualname", "co_linetable", "co_exceptiontable")
    if sys.version_info < (3, 11):  # later these are made when asked for
        attributes += ("co_varnames", "co_cellvars", "co_freevars", "co_code")
    if sys.version_info < (3, 10):
        attributes += ("co_lnotab",)
    return names + tuple([getattr(code, name) for name in attributes if hasattr(code, name)])


def is_static(address, static):
    for start, end in static:
        if start <= address < end:
            return True
    return False


def static_ranges():
    """Where the binaries' own data lies: what their program headers say, .bss included."""
    found = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            fields = line.split(None, 5)
            path = fields[5].strip() if len(fields) > 5 else ""
            name = path.rpartition("/")[2]
            if fields[2].strip("0") == "" and (".so" in name or name.startswith("python")):
                start = int(fields[0].split("-")[0], 16)
                found.append((start, start + loaded_bytes(path)))
    return found


def loaded_bytes(path):
    """From the first to the last byte that an ELF file of 64 bits has loaded."""
    def number(data, offset, size):
        return sum(byte << 8 * i for i, byte in enumerate(bytearray(data[offset:offset + size])))

    with open(path, "rb") as file:
        data = file.read(4096)
    first, count = number(data, 32, 8), number(data, 56, 2)
    headers = [data[first + 56 * i:first + 56 * (i + 1)] for i in range(count)]
    loads = [(number(h, 16, 8), number(h, 40, 8)) for h in headers if number(h, 0, 4) == 1]  # PT_LOAD
    return max(address + size for address, size in loads) - min(address for address, _ in loads) // 4096 * 4096


def measure(static, made_counts, with_reachable):
    tracked_counts, tracked_sizes = count_tracked()
    reachable_counts, reachable_sizes = count_reachable(static) if with_reachable else ({}, {})
    classes = class_table()
    made = rows({id(c): n for c, n in made_counts.items()}, {}, classes)
    return as_json({"version": list(sys.version_info[:3]), "user_types": made,
                    "tracked": rows(tracked_counts, tracked_sizes, classes),
                    "reachable": rows(reachable_counts, reachable_sizes, classes)})


def as_json(value):
    """Dicts, lists, integers and plain text only: all that is needed here, and json would be one more import."""
    if isinstance(value, dict):
        return "{" + ", ".join('"%s": %s' % (k, as_json(v)) for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",\n ".join(map(as_json, value)) + "]"
    return '"%s"' % value if isinstance(value, str) else str(value)


def write_settled(fd, made_counts, with_reachable=True):
    """Writes the truth to `fd`, when two measurements say the same.

    `made_counts`: {class: how many instances of exactly this class live}, known to the program by construction; the
    caller keeps it.
    `with_reachable`: counts untracked objects as well, which fills (and frees) a lot of memory.
    """
    STATIC.extend(static_ranges())  # kept: what lives while measuring must live on
    before, after, left = None, "", MEASUREMENTS
    while before != after:  # a loop that needs no iterator, which would be measured too
        if left == 0:
            sys.exit("measuring disturbs what it measures")
        before, after, left = after, measure(STATIC, made_counts, with_reachable), left - 1
    os.write(fd, after.encode())


def malloc_info_call(ctypes, path):
    """glibc's malloc_info() and the stream to call it with."""
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    libc.fopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    libc.setvbuf.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
    stream = libc.fopen(path.encode(), b"w")
    unbuffered = 2  # _IONBF
    libc.setvbuf(stream, None, unbuffered, 0)
    return libc.malloc_info, stream


def nothing(*_):
    return 0


def say_blocks(write=os.write):
    """What a free-threaded build's allocator, mimalloc, counts; _debugmallocstats() counts nothing of it."""
    write(2, b"allocated blocks: %d\n" % sys.getallocatedblocks())


debugmallocstats = getattr(sys, "_debugmallocstats", gc.isenabled)  # 2.7 has none


def say_and_sleep(pause, info=nothing, stream=0, stats=debugmallocstats, write=os.write):
    """Says the rest, then "ready", then sleeps: what is said here is said last. `pause`: signal.pause."""
    info(0, stream)
    info(0, stream)
    if "free-threading" in sys.version:
        say_blocks()
        say_blocks()
        stats = nothing
    stats()
    stats()
    write(1, b"R")
    while True:
        pause()
