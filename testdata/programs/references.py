"""What an interpreter says its objects refer to.

    python references.py DIRECTORY [--scale N]

makes the zoo (see zoo.py) and more, and writes into DIRECTORY, before it sleeps,
    referents.txt  for every object in the closure of gc.get_referents() over gc.get_objects() a line: its address, its
                   type's address, its type's name, and the addresses that gc.get_referents() returns for it

Left out are the frames that are running and what exists for the sake of measuring: they change while it is written.
"""

import gc
import os
import sys

import truth
import zoo

if sys.version_info >= (3,):
    import reference_shapes
else:
    import reference_shapes_py2 as reference_shapes


def own_frames():
    frame, found = sys._getframe(), []
    while frame is not None:
        found.append(id(frame))
        frame = frame.f_back
    return found


def write_all(fd, referents=gc.get_referents, write=os.write):
    skipped = own_frames()
    seen = {}
    stack = []
    pop, extend = stack.pop, stack.extend
    skipped += [id(skipped), id(seen), id(stack), id(pop), id(extend)]
    extend(gc.get_objects())
    while stack:
        item = pop()
        address = id(item)
        if address in seen or address in skipped:
            continue
        seen[address] = 1
        found = referents(item)
        line = "%x %x %s" % (address, id(type(item)), truth.name_of(type(item))[1])
        for other in found:
            line += " %x" % id(other)
        other = None
        write(fd, (line + "\n").encode("utf-8", "replace"))
        extend(found)
        found = item = None


def main():
    directory = sys.argv[1]
    gc.collect()
    gc.disable()
    n = 100 * (int(sys.argv[3]) if sys.argv[2:3] == ["--scale"] else 1)
    zoo.make_user_objects(n)
    zoo.make_cycles(n)
    zoo.make_builtins(n)
    zoo.make_traps(n)
    reference_shapes.make()
    fd = os.open(os.path.join(directory, "referents.txt"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    write_all(fd)
    truth.say_and_sleep(zoo.signal.pause)


if __name__ == "__main__":
    main()
