"""Directed damage: one field of one known object, pool or arena of the committed cores is overwritten with what cannot be.
Each command must end soon and say where the damage is, and all the rest must still be what the process said of itself."""

import concurrent.futures
import contextlib
import json
import lzma
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "live"))
import harness  # noqa: E402
import test_damaged_heap  # noqa: E402
import test_zoo  # noqa: E402

FOLDER = os.path.join(harness.ROOT, "testdata", "pythons")
VERSIONS = ("2.7.18", "3.6.15", "3.11.2", "3.14.10")  # the oldest layouts, the three forms of frames and dicts
SECONDS = 20  # for a command that takes 0.1 s on the undamaged core
NOWHERE = 0xDEAD0000
HUGE = 1 << 40
MOST_NEGATIVE = 1 << 63
SELF = object()  # the address of the struct that is written to
A_LIST = object()  # the address of a list, where something else is due

COMMANDS = {"types": ("types", "--limit", "0"), "tracked": ("types", "--tracked", "--limit", "0"),
            "reachable": ("types", "--reachable", "--limit", "0"), "pymalloc": ("pymalloc",), "verify": ("verify",)}


class Any(dict):
    """So many of every type."""

    def __init__(self, most):
        super().__init__()
        self.most = most

    def get(self, key, default=None):
        return self.most


ANY_IN_POOL, ANY_IN_ARENA = Any(1 << 10), Any(1 << 16)


class Damage:
    """`path`: from the sample's address to a field, "A.b>C.d" through the pointer b of struct A. Of several paths the first
    that the version has is taken. `lost`: objects that are no longer known, as {type: at most so many}; `hidden`: how many
    may no longer be reachable; `shown`: other samples that show it, None for any. `silent`: nothing that is wrong by itself;
    `consistent`: nothing that `verify` looks at."""

    def __init__(self, sample, path, value, lost={}, hidden=0, shown=(), silent=False, consistent=False):
        self.sample, self.paths, self.value = sample, path.split(" or "), value
        self.lost, self.hidden, self.shown = lost, hidden, shown
        self.silent, self.consistent = silent, silent or consistent

    def __str__(self):
        value = self.value if not isinstance(self.value, int) else hex(self.value)
        return "%s: %s = %s" % (self.sample, self.paths[0], {SELF: "itself", A_LIST: "a list"}.get(value, value))


def lengths(sample, path, *values, **more):
    return [Damage(sample, path, value, **more) for value in values]


ONE_LIST = {"list": 1}
KEYS = "PyDictObject.ma_keys>PyDictKeysObject."
INSTANCES = {"samples.Plain": 9, "type": 1}  # of a class that is none; it may itself no longer be known

OBJECTS = [
    # Type pointers.
    *lengths("list of many", "PyObject.ob_type", 0, NOWHERE, A_LIST, MOST_NEGATIVE + 7, lost=ONE_LIST, hidden=100),
    *lengths("plain", "PyObject.ob_type", 0, NOWHERE, lost={"samples.Plain": 1}, hidden=9, shown=("plain",)),
    Damage("list of many", "PyObject.ob_refcnt", 0, lost=ONE_LIST, hidden=100),
    # Lengths.
    *lengths("list of many", "PyVarObject.ob_size", HUGE, -1, MOST_NEGATIVE, 117, 1 << 20),
    *lengths("list of many", "PyListObject.ob_item", NOWHERE, hidden=100),
    *lengths("tuple", "PyVarObject.ob_size", HUGE, -5, 40, MOST_NEGATIVE, hidden=4),
    *lengths("bytes", "PyVarObject.ob_size", HUGE, -1, 4000),
    *lengths("long bytes", "PyVarObject.ob_size", HUGE, -1, 40000),
    *lengths("ascii", "PyASCIIObject.length or PyVarObject.ob_size", HUGE, -1, 4000),
    *lengths("bmp", "PyASCIIObject.length or PyUnicodeObject.length", HUGE, -1),
    *lengths("long text", "PyASCIIObject.length or PyVarObject.ob_size", HUGE, -1, 40000),
    *lengths("bytearray", "PyVarObject.ob_size", HUGE, -1),
    *lengths("bytearray", "PyByteArrayObject.ob_alloc", HUGE),
    *lengths("huge", "PyLongObject.lv_tag or PyVarObject.ob_size", HUGE, 4000),
    *lengths("doubles", "PyVarObject.ob_size", HUGE),
    # Dicts: their tables, indices and counts.
    *lengths("dict of ints", "PyDictObject.ma_keys or PyDictObject.ma_table", 0, NOWHERE, A_LIST, hidden=6),
    *lengths("dict of ints", KEYS + "dk_log2_size or " + KEYS + "dk_size or PyDictObject.ma_mask", 63, 20, hidden=6),
    *lengths("dict of ints", KEYS + "dk_log2_index_bytes", 8, 12, 63, hidden=6),
    *lengths("dict of ints", KEYS + "dk_nentries", HUGE, -1, hidden=6),
    *lengths("dict of ints", KEYS + "dk_indices", 0x7F7F7F7F7F7F7F7F, 0),
    *lengths("dict of ints", "PyDictObject.ma_used", HUGE, 2, -1),
    *lengths("dict of ints", "PyDictObject.ma_values", NOWHERE, hidden=6),
    Damage("ordered dict", "PyODictObject.od_first>_odictnode.next", SELF, hidden=9),
    Damage("ordered dict", "PyODictObject.od_first>_odictnode.next", NOWHERE, hidden=9),
    # Sets and deques.
    *lengths("set", "PySetObject.mask", HUGE - 1, 6, -1, hidden=4),
    *lengths("set", "PySetObject.used", HUGE, 7, 2),
    *lengths("set", "PySetObject.table", NOWHERE, hidden=4),
    *lengths("long deque", "dequeobject.leftblock>BLOCK.rightlink", SELF, NOWHERE, hidden=300),
    *lengths("long deque", "dequeobject.leftindex", 9999, hidden=300),
    *lengths("long deque", "dequeobject.len or PyVarObject.ob_size", HUGE, -1, hidden=300),
    # Pointers astray.
    Damage("function", "PyFunctionObject.func_code", NOWHERE, hidden=2),
    Damage("cell", "PyCellObject.ob_ref", NOWHERE),
    Damage("bound method", "PyMethodObject.im_func", NOWHERE),
    Damage("module", "PyModuleObject.md_dict", NOWHERE, hidden=1),
    Damage("exception", "PyBaseExceptionObject.args", NOWHERE, hidden=2),
    Damage("partial", "partialobject.args", NOWHERE, hidden=2),
    Damage("code", "PyCodeObject.co_name", NOWHERE, shown=("function",), hidden=1),
    # Chains in a circle: frames, tracebacks, contexts.
    Damage("frame", "PyFrameObject.f_back", SELF, silent=True, hidden=2),
    Damage("frame", "PyFrameObject.f_frame or PyFrameObject.f_code", NOWHERE, hidden=9),
    Damage("suspended generator", "PyGenObject.gi_iframe+_PyInterpreterFrame.f_code or "
           "PyGenObject.gi_iframe+_PyInterpreterFrame.f_executable or PyGenObject.gi_frame", NOWHERE, hidden=9),
    Damage("suspended generator", "PyGenObject.gi_iframe+_PyInterpreterFrame.stacktop or "
           "PyGenObject.gi_frame>PyFrameObject.f_stacktop", 0x7FFFFFFF, hidden=9, silent=True),
    Damage("exception", "PyBaseExceptionObject.traceback>PyTracebackObject.tb_next", SELF, hidden=9, consistent=True),
    Damage("chained exception", "PyBaseExceptionObject.context", SELF, hidden=9, silent=True),
    Damage("lru cache", "lru_cache_object.root_next>lru_list_elem.next", SELF, hidden=9),
    # The class of an object.
    *lengths("plain", "PyObject.ob_type>PyTypeObject.tp_base", SELF, NOWHERE, hidden=9, shown=None, silent=True),
    *lengths("plain", "PyObject.ob_type>PyTypeObject.tp_basicsize", 0, HUGE, lost=INSTANCES, hidden=200, shown=None),
    *lengths("plain", "PyObject.ob_type>PyTypeObject.tp_mro", NOWHERE, hidden=9, shown=None),
    *lengths("plain", "PyObject.ob_type>PyHeapTypeObject.ht_cached_keys>PyDictKeysObject.dk_nentries", HUGE, hidden=9,
             shown=None, silent=True),
    # The collector's links.
    *lengths("list of many", "gc>PyGC_Head._gc_next", SELF, 0, NOWHERE, 0x4141414141414140, lost=ONE_LIST, hidden=100),
    *lengths("list of many", "gc>PyGC_Head._gc_prev", SELF, 0, NOWHERE, lost=ONE_LIST, hidden=100),
]

POOLS = [Damage("tuple", "pool>pool_header." + field, value, lost=ANY_IN_POOL, hidden=9999, shown=None) for field, value in (
    ("ref_count", 0xFFFF), ("szidx", 200), ("szidx", 1), ("arenaindex", 99999), ("nextoffset", 0x7FFFFFFF), ("nextoffset", 57))]
POOLS += [Damage("tuple", "pool>pool_header.freeblock", value, lost={"tuple": 1}, hidden=9, shown=("tuple",))
          for value in (NOWHERE, MOST_NEGATIVE)]
POOLS += [Damage("tuple", "free block>block.next", value, lost=ANY_IN_POOL, hidden=9999, shown=None) for value in (SELF, NOWHERE)]
ARENAS = [Damage("tuple", "arena>arena_object." + field, value, lost=ANY_IN_ARENA, hidden=99999, shown=None) for field, value in (
    ("address", NOWHERE), ("pool_address", NOWHERE), ("nfreepools", 9999), ("ntotalpools", 0), ("ntotalpools", 1 << 30))]


class Target:
    """A committed core, its truth, and where things lie in it."""

    def __init__(self, version, folder):
        with lzma.open(os.path.join(FOLDER, version + ".core.xz")) as file:
            self.core = test_damaged_heap.Core(file.read())
        with open(os.path.join(FOLDER, version + ".truth.json")) as file:
            self.truth = json.load(file)
        self.version = tuple(self.truth["version"])
        self.samples = {sample["name"]: sample for sample in self.truth["samples"]}
        self.nothing = os.path.join(folder, "nothing")
        os.makedirs(self.nothing, exist_ok=True)
        self.copies = queue.Queue()
        for number in range(2):
            path = os.path.join(folder, "%s-%d" % (version, number))
            with open(path, "wb") as file:
                file.write(self.core.bytes)
            self.copies.put(path)
        with self.damaged([]) as path:
            rows = self.ask(path, "verify", "--layouts").document["layouts"]
            self.fields = {row["structure"] + "." + row["field"]: (row["offset"], min(row["bytes"], 8))
                           for row in rows if row["library"] == "cpython"}
            self.fields["block.next"] = 0, 8
            self.undamaged = self.look(path, self.address("tuple"))
        pymalloc = self.undamaged["pymalloc"]
        self.pool_bytes, self.arena_bytes = pymalloc["pool_bytes"], pymalloc["arena_bytes"]
        self.arenas = [int(arena["address"], 16) for arena in pymalloc["arenas"]]

    @contextlib.contextmanager
    def damaged(self, changes):
        """The path of a core with these (file offset, bytes)."""
        path = self.copies.get()
        try:
            patch(path, changes)
            yield path
        finally:
            patch(path, [(at, self.core.bytes[at:at + len(new)]) for at, new in changes])
            self.copies.put(path)

    def ask(self, path, command, *words):
        return harness.heapcore(command, path, *words, "--sysroot", self.nothing, "--json", "--no-progress", seconds=SECONDS)

    def look(self, path, address):
        answers = {name: self.ask(path, *words) for name, words in COMMANDS.items()}
        answers["show"] = self.ask(path, "show", *[s["address"] for s in self.truth["samples"]], "--values", "--limit", "0")
        answers["refs"] = self.ask(path, "refs", hex(address), "--limit", "0")
        return {name: harness.check_contract(answer) for name, answer in answers.items()}

    def address(self, sample):
        return int(self.samples[sample]["address"], 16)

    def word(self, address):
        at = self.core.offset(address)
        return None if at is None else self.core.get(at)

    def field(self, base, name):
        return self.word(base + self.fields[name][0])

    def arena_of(self, address):
        return next((arena for arena in self.arenas if arena <= address < arena + self.arena_bytes), None)

    def anchor(self, name, address):
        """The address of what has to do with an object, by the first word of a path."""
        if name == "gc":
            return address - (32 if "PyGC_Head.gc_refs" in self.fields else 16)
        if name == "pool":
            return address // self.pool_bytes * self.pool_bytes
        if name == "arena":
            wanted = self.arena_of(address).to_bytes(8, "little")
            at = self.core.bytes.find(wanted)
            while at >= 0:
                place = self.core.address(at)
                if at % 8 == 0 and place and self.arena_of(self.word(place + 8) - 1) == self.arena_of(address):
                    return place
                at = self.core.bytes.find(wanted, at + 1)
            raise AssertionError("no arena_object")
        for sample in self.truth["samples"]:
            pool = self.anchor("pool", int(sample["address"], 16))
            if self.arena_of(pool) and self.field(pool, "pool_header.freeblock"):
                return self.field(pool, "pool_header.freeblock")
        raise AssertionError("no free block")

    def place(self, damage):
        """The struct, and the address and width of the field that a damage is done to; None where the version has none."""
        for path in damage.paths if damage.sample in self.samples else ():
            base = self.address(damage.sample)
            steps = re.split("([>+])", path)
            for name, how in zip(steps[::2], steps[1::2] + [""]):
                if name in ("gc", "pool", "arena", "free block"):
                    base = self.anchor(name, base)
                elif name not in self.fields or not base:
                    break
                elif how == ">":
                    base = self.field(base, name)
                elif how == "+":
                    base += self.fields[name][0]
                elif self.core.offset(base) is not None:
                    return base, base + self.fields[name][0], self.fields[name][1]
        return None


def patch(path, changes):
    with open(path, "r+b") as file:
        for at, new in changes:
            file.seek(at)
            file.write(new)


def counts(document):
    return {(row["module"], row["name"]): row["count"] for row in document["types"]}


def short(key):
    return key[1] if key[0] in ("builtins", "__builtin__") else ".".join(key)


class Checks:
    """What must be true of the answers on a damaged core: lines that say where it is not."""

    def __init__(self, target, damage, place, answers):
        self.target, self.damage, self.answers = target, damage, answers
        self.address, self.base = target.address(damage.sample), place[0]
        self.errors = []

    def run(self):
        self.damage_is_named()
        self.types_are_right("types", counts(self.target.undamaged["types"]))
        self.types_are_right("tracked", self.true_tracked())
        self.reachable_are_right()
        self.blocks_are_right()
        self.values_are_right()
        return self.errors

    def damage_is_named(self):
        """By the address of the object, of its header, or of the struct, pool or arena that it is in."""
        named = {self.address, self.base, self.target.anchor("gc", self.address), self.target.anchor("pool", self.base),
                 self.target.arena_of(self.base), self.target.arena_of(self.address)}
        told = [(name, w) for name, document in self.answers.items() for w in document["warnings"]
                if w["address"] and int(w["address"], 16) in named]
        if not told and not self.damage.silent:
            self.errors.append("no warning is at its address, but %s" % {
                (w["code"], w["address"]) for document in self.answers.values() for w in document["warnings"]})
        if self.answers["verify"]["consistent"] and not self.damage.consistent:
            self.errors.append("verify says that all is consistent")

    def true_tracked(self):
        table = {(row["module"], row["name"]): row["count"] for row in self.target.truth["tracked"]}
        for key, added in test_zoo.measuring_adds(self.target.version).items():
            table[key] -= added
        return table

    def types_are_right(self, name, expected):
        actual = counts(self.answers[name])
        for key in sorted(set(expected) | set(actual)):
            fewer = expected.get(key, 0) - actual.get(key, 0)
            allowed = self.damage.lost.get(short(key), 0)
            if not 0 <= fewer <= allowed:
                self.errors.append("%s: %d %s, and not %d" % (name, actual.get(key, 0), short(key), expected.get(key, 0)))

    def reachable_are_right(self):
        expected, actual = counts(self.target.undamaged["reachable"]), counts(self.answers["reachable"])
        more = {short(key): count - expected.get(key, 0) for key, count in actual.items() if count > expected.get(key, 0)}
        if more:
            self.errors.append("more can be reached: %s" % more)
        fewer = sum(expected.values()) - sum(actual.values())
        if fewer > self.damage.hidden:
            self.errors.append("%d fewer can be reached" % fewer)

    def blocks_are_right(self):
        if isinstance(self.damage.lost, Any) or not self.target.truth["pymalloc"]:
            return
        self.errors += harness.pymalloc_differences(self.target.truth["pymalloc"], self.answers["pymalloc"])

    def values_are_right(self):
        if self.damage.shown is None:
            return
        for sample, sight in zip(self.target.truth["samples"], self.answers["show"]["addresses"]):
            shown = sight["object"]["value"] if sight["object"] else "no object"
            others = sample["name"] not in (self.damage.sample, *self.damage.shown)
            if others and shown != sample["text"] and self.address != int(sample["address"], 16):
                self.errors.append("%s is shown as %s" % (sample["name"], shown[:60]))


class DamagedObjects(unittest.TestCase):
    """One test for each version and kind of damage, made below."""

    targets = {}

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="heapcore-damaged-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)

    def check(self, version, damages):
        if version not in self.targets:
            self.targets[version] = Target(version, self.folder)
        target = self.targets[version]
        damages = [damage for damage in damages if target.place(damage)]
        print("%d kinds of damage" % len(damages), file=sys.stderr)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for damage, errors in zip(damages, pool.map(lambda damage: self.errors(target, damage), damages)):
                with self.subTest(str(damage)):
                    self.assertEqual(errors, [])

    def errors(self, target, damage):
        place = target.place(damage)
        value = {SELF: place[0], A_LIST: target.address("nested")}.get(damage.value, damage.value)
        new = (value & (1 << 8 * place[2]) - 1).to_bytes(place[2], "little")
        with target.damaged([(target.core.offset(place[1]), new)]) as path:
            try:
                answers = target.look(path, target.address(damage.sample))
            except (AssertionError, subprocess.TimeoutExpired) as error:
                return [str(error)]
        return Checks(target, damage, place, answers).run()


def make_tests():
    for version in VERSIONS:
        for kind, damages in (("objects", OBJECTS), ("pools", POOLS), ("arenas", ARENAS)):
            def test(self, version=version, damages=damages):
                self.check(version, damages)
            setattr(DamagedObjects, "test_%s_%s" % (kind, version.replace(".", "_")), test)


make_tests()

if __name__ == "__main__":
    harness.main()
