"""Memory that the same contents would do without, each kind held by a class of its own.

Run as `python -S wasteful.py FOLDER`. FOLDER/truth.json has for each kind, type and holder how many objects waste how
many bytes by what sys.getsizeof says, and how many there are of it. Then it writes one byte and waits. Works with 2.7
and 3.x.
"""

import json
import os
import sys
import time

COPIES = 400
CONTENTS = 12
RECORDS = 1500
NUMBERS = 5000
CONTAINERS = 700
ENTRIES = 2000
LEFT = 20


class Tag(object):
    __slots__ = ("name",)


class Chunk(object):
    __slots__ = ("data",)


class Record(object):
    def __init__(self, number):
        self.first = number
        self.second = None


class Holder(object):
    __slots__ = ("held",)

    def __init__(self, held):
        self.held = held


class EmptyLists(Holder):
    pass


class EmptyDicts(Holder):
    pass


class EmptySets(Holder):
    pass


class SparseDicts(Holder):
    pass


class SparseSets(Holder):
    pass


class SpareLists(Holder):
    pass


class SpareByteArrays(Holder):
    pass


class Floats(Holder):
    pass


class Ints(Holder):
    pass


class FloatsByKey(Holder):
    pass


class SharedFloats(Holder):
    pass


size = sys.getsizeof
truth = []


def note(kind, of, holder, objects, wasted):
    truth.append({"kind": kind, "type": of, "held_by": "__main__." + holder, "count": objects, "wasted_bytes": wasted})


def type_name(value):
    return "%s.%s" % (type(value).__module__, type(value).__name__)


def duplicates(holder, attribute, make):
    holders = []
    wasted = 0
    for content in range(CONTENTS):
        for copy in range(COPIES):
            holders.append(holder())
            text = make(content)
            setattr(holders[-1], attribute, text)
            wasted += size(text) if copy != 0 else 0
    note("duplicate_strings", type_name(text), holder.__name__, CONTENTS * COPIES, wasted)
    return holders


def records():
    made = [Record(number) for number in range(RECORDS)]
    wasted = sum(size(vars(record)) - 8 * len(vars(record)) for record in made)  # which makes the dicts, from 3.11 on
    note("instance_dicts", "__main__.Record", "Record", RECORDS, wasted)
    return made


def containers(kind, holder, make, waste):
    held = tuple(make() for _ in range(CONTAINERS))  # a list would have spare room itself
    note(kind, type_name(held[0]), holder.__name__, CONTAINERS, sum(map(waste, held)))
    return holder(held)


def sparse_dict():
    made = dict((str(i), None) for i in range(ENTRIES))
    for i in range(LEFT, ENTRIES):
        del made[str(i)]
    return made


def sparse_set():
    made = set(range(ENTRIES))
    for i in range(LEFT, ENTRIES):
        made.discard(i)
    return made


def of_few_entries(made):
    """A dict with room for these entries and no more than the interpreter would have."""
    fresh = {}
    for key in list(made):
        fresh[key] = made[key]
    return fresh


def spare_list():
    made = []
    for _ in range(9):
        made.append(None)
    return made


def spare_byte_array():
    made = bytearray(300)
    del made[200:]
    return made


def numbers(holder, held, boxed):
    note("boxed_numbers", type_name(boxed[0]), holder.__name__, len(boxed), sum(map(size, boxed)))
    return holder(held)


def number_of(i):
    return i * 1.5


keep = []


def main():
    global CONTAINERS
    keep.append(duplicates(Tag, "name", lambda content: "".join(["region ", str(content), " of many"])))
    keep.append(duplicates(Chunk, "data", lambda content: b"".join([b"chunk ", str(content).encode()] * 40)))
    keep.append(records())
    keep.append(containers("empty_containers", EmptyLists, list, size))
    keep.append(containers("empty_containers", EmptyDicts, dict, size))
    keep.append(containers("empty_containers", EmptySets, set, size))
    keep.append(containers("spare_room", SpareLists, spare_list, lambda made: size(made) - size(made[:])))
    keep.append(containers("spare_room", SpareByteArrays, spare_byte_array,
                           lambda made: size(made) - size(bytearray(bytes(made)))))
    CONTAINERS = 30
    keep.append(containers("sparse_containers", SparseDicts, sparse_dict,
                           lambda made: size(made) - size(of_few_entries(made))))
    keep.append(containers("sparse_containers", SparseSets, sparse_set, lambda made: size(made) - size(set(made))))
    floats = [number_of(i) for i in range(NUMBERS)]
    keep.append(numbers(Floats, floats, floats))
    ints = tuple(10 ** 6 + i for i in range(NUMBERS))
    keep.append(numbers(Ints, ints, ints))
    by_key = dict((i, number_of(i)) for i in range(NUMBERS))
    keep.append(numbers(FloatsByKey, by_key, list(by_key.values())))
    shared = [number_of(i) for i in range(NUMBERS)]  # an array would not free them
    keep.append([SharedFloats(shared), SharedFloats(tuple(shared))])


main()
with open(os.path.join(sys.argv[1], "truth.json"), "w") as file:
    json.dump(truth, file)
os.write(1, b"x")
while True:
    time.sleep(1000)
