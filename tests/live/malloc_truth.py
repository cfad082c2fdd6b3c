"""What testdata/programs/malloc_shapes.c says of its heap, and where heapcore's malloc document differs from it."""

import harness


def parse_output(path):
    """mallinfo2 and what was put into tcaches as numbers, and malloc_info parsed."""
    with open(path) as file:
        text = file.read()
    lines, tag, rest = text.partition("<malloc")
    return {k: int(v) for k, v in (line.split() for line in lines.splitlines())}, harness.parse_malloc_info(tag + rest)


def mallinfo_differences(info, document):
    """mallinfo2 masks the flag bits: here the free bytes are exact."""
    arenas = document["arenas"]
    binned = [arena["free"][kind] for arena in arenas for kind in ("unsorted", "small", "large")]
    fast = [arena["free"]["fast"] for arena in arenas]
    top = sum(arena["top_bytes"] for arena in arenas)
    # To malloc, chunks in tcaches are in use; so is what is in no chunk (heap_info, malloc_state, fenceposts).
    used = sum(arena["in_use"]["bytes"] + arena["free"]["tcache"]["bytes"] + arena["overhead_bytes"] for arena in arenas)
    actual = {
        "arena": sum(arena["system_bytes"] for arena in arenas),
        "ordblks": sum(b["count"] for b in binned) + len(arenas),  # a top for each arena
        "smblks": sum(f["count"] for f in fast),
        "fsmblks": sum(f["bytes"] for f in fast),
        "uordblks": used,
        "fordblks": sum(b["bytes"] for b in binned + fast) + top,
        "hblks": document["mmapped"]["count"],
        "hblkhd": document["mmapped"]["bytes"],
        "keepcost": next(arena["top_bytes"] for arena in arenas if arena["main"]),
    }
    return harness.differences({key: info[key] for key in actual}, actual)


def tcache_differences(info, document, tids_known=True):
    """Each thread's tcache holds what the program put there, and nothing else."""
    expected = {key.rpartition("_")[2]: (count, info["tcache_bytes_" + key.rpartition("_")[2]])
                for key, count in info.items() if key.startswith("tcache_count_")}
    if not tids_known:
        actual = sorted((t["count"], t["bytes"]) for t in document["tcaches"] if t["count"])
        return harness.differences({"tcaches": sorted(expected.values())}, {"tcaches": actual})
    actual = {str(t["thread"]): (t["count"], t["bytes"]) for t in document["tcaches"]}
    return harness.differences(expected, {tid: actual.get(tid) for tid in expected})
