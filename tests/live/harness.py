"""What every live test needs: interpreters, target programs, cores of them, heapcore's answers, and others' truth.

HEAPCORE names the binary under test. Nothing else is taken for granted: what is not there (an interpreter, gdb, a
kernel that writes cores where we can find them) is said in a line that begins with SKIPPED, on standard error and,
where HEAPCORE_SKIPPED_LOG names a file, in that file too. HEAPCORE_PYTHONS may name folders, parted by colons, with
more interpreters: in the folder itself, in its bin, or in the bins of the folders in it. Where HEAPCORE_TEST_RECORD
names a file, a line of JSON is added to it for each check of a Python, which script/support-matrix reads.
"""

import contextlib
import functools
import glob
import json
import os
import re
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree

import elf

SUPPORTED_PYTHONS = ("2.7", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15")  # grows as heapcore learns more versions
SUPPORTED_FREE_THREADED = ("3.13", "3.14", "3.15")
KERNEL_FILTERS = (0x33, 0x23, 0x7F)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAMS = os.path.join(ROOT, "testdata", "programs")
START_SECONDS = 120
RUN_SECONDS = 120


def skipped(what, reason):
    line = "SKIPPED: %s: %s" % (what, reason)
    print(line, file=sys.stderr, flush=True)
    log = os.environ.get("HEAPCORE_SKIPPED_LOG")
    if log:
        with open(log, "a") as file:
            file.write(line + "\n")


def main():
    binary()
    unittest.main(module="__main__", verbosity=2)


# ---- interpreters ----------------------------------------------------------------------------------------------------

class Interpreter:
    def __init__(self, path, release, version, build="release"):
        self.path = path
        self.release = release  # "3.15.0rc1"
        self.version = version  # (3, 15, 0)
        self.build = build  # or "debug", "free-threaded", "free-threaded debug"
        self.free_threaded = build.startswith("free-threaded")
        self.minor = "%d.%d" % version[:2]
        libpython = shared_libpython(path)
        self.stripped = not any(has_symtab(file) for file in [path] + libpython)
        self.linkage = "shared" if libpython else "static"
        self.origin = "installed" if is_elf(path) else "unpacked"  # started by a script, with its own loader and libraries

    def __str__(self):
        stripped = "stripped" if self.stripped else "not stripped"
        return "%s (%s, %s build, %s)" % (self.path, self.release, self.build, stripped)

    @property
    def label(self):
        return "%d_%d_%d_%s_%s" % (self.version + (self.build, "stripped" if self.stripped else "symbols"))


def is_elf(path):
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def has_symtab(path):
    if not is_elf(path):
        return False
    with elf.Elf(path) as file:
        return file.has_symtab()


def shared_libpython(path):
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        lines = subprocess.run(["ldd", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        return [os.path.realpath(p) for p in re.findall(r"libpython\S* => (/\S+)", lines)]
    return []


def candidates(name):
    """Programs that may be e.g. "python3.13": on PATH, in /usr/bin, under HEAPCORE_PYTHONS, and under pyenv's root."""
    for folder in os.environ.get("PATH", "").split(os.pathsep) + ["/usr/bin"]:
        yield os.path.join(folder, name)
    for folder in filter(None, os.environ.get("HEAPCORE_PYTHONS", "").split(os.pathsep)):
        for pattern in (name, "bin/" + name, "*/bin/" + name):
            yield from sorted(glob.glob(os.path.join(folder, pattern)))
    pyenv = os.environ.get("PYENV_ROOT") or os.path.join(os.path.expanduser("~"), ".pyenv")
    yield from sorted(glob.glob(os.path.join(pyenv, "versions", "*", "bin", name)))


def identify(path):
    """The Interpreter behind `path` (which may be a link or a script); None if it does not run."""
    code = ("import os, sys; print(os.path.realpath('/proc/self/exe')); print(sys.version.split()[0].rstrip('+'));"
            "print(' '.join(map(str, sys.version_info[:3])));"
            "print('free-threading' in sys.version); print(hasattr(sys, 'gettotalrefcount'))")
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        run = subprocess.run([path, "-ESc", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
                             text=True, timeout=20)
        executable, release, version, free_threaded, debug = run.stdout.splitlines()
        if "python" not in os.path.basename(executable):
            executable = path  # a script that starts it through a dynamic linker of its own
        words = ["free-threaded"] * (free_threaded == "True") + ["debug"] * (debug == "True")
        return Interpreter(executable, release, tuple(int(v) for v in version.split()), " ".join(words) or "release")
    return None


@functools.lru_cache(maxsize=None)
def interpreters():
    found = {}
    wanted = [(minor, "") for minor in SUPPORTED_PYTHONS] + [(minor, "t") for minor in SUPPORTED_FREE_THREADED]
    for minor, suffix in wanted:
        known = [i for i in map(identify, filter(os.path.exists, candidates("python" + minor + suffix)))
                 if i and i.minor == minor and i.free_threaded == bool(suffix)]
        for interpreter in known:
            found.setdefault(interpreter.path, interpreter)
        if not known:
            skipped("CPython " + minor + suffix, "no interpreter found (HEAPCORE_PYTHONS may name folders of them)")
    return list(found.values())


def for_each_interpreter(base):
    """Makes, beside the class it decorates, one test class for each interpreter of the machine, with `interpreter` set."""
    make_test_classes(base, interpreters())
    return base


def make_test_classes(base, interpreters):
    namespace = sys.modules[base.__module__].__dict__
    for interpreter in interpreters:
        print("interpreter:", interpreter, file=sys.stderr)
        name = "%s_%s" % (base.__name__, interpreter.label)
        while name in namespace:
            name += "_"
        members = {"interpreter": interpreter, "__module__": base.__module__}
        namespace[name] = type(name, (base, unittest.TestCase), members)


# ---- what was checked ------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def checking(test, view, check):
    """A subtest on one view of a process, and the record of how it ended. `check` names what it compares with the truth:
    "objects", "blocks", "values", "references" or more of their kind. A test under special conditions says so in `under`."""
    with test.subTest(view):
        outcome = "failed"
        try:
            yield
            outcome = "passed"
        except unittest.SkipTest:
            outcome = "skipped"
            raise
        finally:
            python = test.interpreter
            record({"python": python.release, "build": python.build, "origin": python.origin,
                    "linkage": python.linkage, "stripped": python.stripped, "under": getattr(test, "under", ""), "view": view,
                    "check": check, "test": test.id(), "outcome": outcome})


def record(line):
    path = os.environ.get("HEAPCORE_TEST_RECORD")
    if path:
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")


# ---- targets ---------------------------------------------------------------------------------------------------------

class Target:
    """A program that says "ready" with one byte on its standard output and then stands still."""

    def __init__(self, argv, directory, core_filter=None, env=None):
        self.directory = directory
        self.stderr_path = os.path.join(directory, "stderr.txt")
        clean = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"} if env is None else env
        with open(self.stderr_path, "wb") as stderr:
            self.process = subprocess.Popen(argv, cwd=directory, env=clean, stdin=subprocess.DEVNULL,
                                            stdout=subprocess.PIPE, stderr=stderr, preexec_fn=allow_cores)
        self.pid = self.process.pid
        if core_filter is not None:
            with open("/proc/%d/coredump_filter" % self.pid, "w") as file:
                file.write("0x%x" % core_filter)

    def wait_ready(self):
        out = self.process.stdout.fileno()
        if not select.select([out], [], [], START_SECONDS)[0] or os.read(out, 1) == b"":
            raise RuntimeError("the target did not get ready: " + self.stderr()[-2000:])
        self.wait_asleep()
        return self

    def wait_asleep(self):
        asleep = 0
        for _ in range(START_SECONDS * 100):
            asleep = asleep + 1 if self.state() == "S" else 0
            if asleep == 5:
                return
            time.sleep(0.01)
        raise RuntimeError("the target does not come to rest")

    def stderr(self):
        with open(self.stderr_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def state(self):
        with open("/proc/%d/stat" % self.pid) as file:
            return file.read().rpartition(")")[2].split()[0]

    def mapped_bytes(self):
        """The sum of its mappings; those in the upper half ([vsyscall]) are the kernel's own and do not count."""
        with open("/proc/%d/maps" % self.pid) as file:
            ranges = [[int(x, 16) for x in line.split(None, 1)[0].split("-")] for line in file]
        return sum(end - start for start, end in ranges if start < 1 << 63)

    def libraries(self):
        """Where each ELF file begins in its memory: pairs of start and path."""
        with open("/proc/%d/maps" % self.pid) as file:
            lines = [line.split(None, 5) for line in file]
        return [(int(f[0].split("-")[0], 16), f[5].strip()) for f in lines if len(f) > 5 and int(f[2], 16) == 0]

    def words(self, address, letters):
        """Little-endian numbers of its memory, as `struct` names their widths."""
        form = struct.Struct("<" + letters)
        with open("/proc/%d/mem" % self.pid, "rb") as file:
            file.seek(address)
            return form.unpack(file.read(form.size))

    def gcore(self):
        prefix = os.path.join(self.directory, "gcore")
        run = subprocess.run(["gcore", "-o", prefix, str(self.pid)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, timeout=RUN_SECONDS)
        path = "%s.%d" % (prefix, self.pid)
        if not os.path.exists(path):
            raise RuntimeError("gcore failed: " + run.stdout.decode(errors="replace")[-1000:])
        return path

    def kernel_core(self):
        """Ends the target; the kernel writes its core into the target's directory."""
        os.kill(self.pid, signal.SIGABRT)
        self.process.wait(timeout=RUN_SECONDS)
        cores = glob.glob(os.path.join(self.directory, "core*"))
        if len(cores) != 1:
            raise RuntimeError("the kernel wrote no core")
        return cores[0]

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def allow_cores():
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def why_no_gcore():
    return None if shutil.which("gcore") else "gdb's gcore is not installed"


def why_no_kernel_core():
    with open("/proc/sys/kernel/core_pattern") as file:
        pattern = file.read().strip()
    if not pattern.startswith("core") or "/" in pattern:
        return "kernel.core_pattern is '%s', not a plain name that begins with 'core'" % pattern
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        return "the hard limit of the core size is 0"
    return None


class TargetTest:
    """To be mixed into a TestCase: temporary folders and targets that end with the test class."""

    @classmethod
    def temporary_directory(cls):
        directory = tempfile.mkdtemp(prefix="heapcore-live-")
        cls.addClassCleanup(shutil.rmtree, directory, True)
        return directory

    @classmethod
    def start(cls, argv, core_filter=None, directory=None):
        target = Target(argv, directory or cls.temporary_directory(), core_filter)
        cls.addClassCleanup(target.stop)
        return target

    @classmethod
    def start_python(cls, interpreter, program, core_filter=None):
        """A program of testdata/programs that takes the folder for its truth as its first argument."""
        directory = cls.temporary_directory()
        argv = [interpreter.path, "-B", "-S", os.path.join(PROGRAMS, program), directory]
        return cls.start(argv, core_filter, directory).wait_ready()


# ---- heapcore --------------------------------------------------------------------------------------------------------

class Answer:
    def __init__(self, argv, status, stdout, stderr):
        self.argv, self.status, self.stdout, self.stderr = argv, status, stdout, stderr

    @property
    def document(self):
        try:
            return json.loads(self.stdout)
        except ValueError as error:
            raise AssertionError("no JSON from %s: %s\n%s" % (self, error, self.stdout[:500])) from None

    def __str__(self):
        said = self.stderr.strip()[-1000:] or "-"
        return "`heapcore %s` (status %s, stderr: %s)" % (" ".join(self.argv), self.status, said)


def binary():
    path = os.environ.get("HEAPCORE")
    if not path or not os.access(path, os.X_OK):
        raise RuntimeError("HEAPCORE must name the heapcore binary; it is %r" % path)
    return os.path.abspath(path)


def heapcore(*argv, binary_path=None, seconds=RUN_SECONDS, **popen):
    run = subprocess.run([binary_path or binary(), *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, timeout=seconds, **popen)
    return Answer(argv, run.returncode, run.stdout.decode(errors="replace"), run.stderr.decode(errors="replace"))


# ---- the JSON contract -----------------------------------------------------------------------------------------------

ADDRESS = re.compile(r"0x(0|[1-9a-f][0-9a-f]*)$")
COUNTED = {"count": int, "bytes": int}
SAMPLE = {"address": ADDRESS, "text": (str, None)}
NAMED = {"name": str, "value": str, "address": (ADDRESS, None)}

REFERENCE = {"edge": str, "kind": re.compile("visited$|owned$|buffer$|weak$|conservative$"), "address": ADDRESS,
             "type": (str, None), "bytes": int}

RETAINED = {"address": ADDRESS, "type": str, "bytes": int, "retained_bytes": int, "root": (str, None), "path": str}

WASTED = {"type": str, "count": int, "bytes": int, "wasted_bytes": int, "path": str, "objects": [ADDRESS]}
PINNED = {"arenas": int, "bytes": int, "kept_bytes": int, "live_bytes": int, "blocks": int}

GROWTH = {"older": COUNTED, "newer": COUNTED, "new": COUNTED, "gone": COUNTED, "survived": COUNTED, "grown_bytes": int}

HEADER = {
    "schema": int, "heapcore": str, "command": str,
    "target": {"kind": re.compile("core$|pid$"), "path": (str, None), "pid": (int, None), "executable": (str, None),
               "architecture": str, "python": (str, None), "python_build": (str, None), "libc": (str, None)},
    "warnings": [{"code": str, "message": str, "address": (ADDRESS, None)}],
}

COMMANDS = {
    "types": {"types": [{"module": str, "name": str, "address": ADDRESS, "count": int, "bytes": int}],
              "total": COUNTED},
    "malloc": {
        "located_by": (str, None),
        "arenas": [{"address": ADDRESS, "main": bool, "heaps": int, "system_bytes": int, "max_system_bytes": int,
                    "top_bytes": int, "in_use": COUNTED,
                    "free": {"tcache": COUNTED, "fast": COUNTED, "unsorted": COUNTED, "small": COUNTED,
                             "large": COUNTED}}],
        "mmapped": COUNTED, "total": {}, "trim": {"releasable_bytes": (int, None)}},
    "pymalloc": {
        "allocator": (str, None), "arena_bytes": int, "pool_bytes": int,
        "arenas": [{"address": ADDRESS, "pools": int, "free_pools": int, "blocks_in_use": int, "bytes_in_use": int}],
        "classes": [{"block_bytes": int, "pools": int, "blocks_in_use": int, "blocks_free": int}],
        "total": {"arenas": int, "bytes": int, "pools": int, "free_pools": int, "blocks_in_use": int,
                  "bytes_in_use": int, "bytes_free": int, "bytes_overhead": int}},
    "ledger": {"ledger": [{"category": str, "detail": str, "bytes": int, "not_dumped_bytes": int}],
               "total": {"mapped_bytes": int}},
    "capture": {"capture": {"path": str, "file_bytes": int, "memory_bytes": int, "threads": int, "strings": bool}},
    "map": {
        "page_bytes": int,
        "allocators": [{"allocator": str, "arenas": int, "bytes": int, "live_bytes": int, "free_bytes": int,
                        "overhead_bytes": int, "free_arenas": COUNTED, "mmapped": COUNTED, "occupancy": [int]}],
        "arenas": [{"address": ADDRESS, "allocator": str, "bytes": int, "live_bytes": int, "free_bytes": int,
                    "cell_bytes": int, "pages": re.compile(r"[0-9.t?-]*$")}],
        "arenas_count": int, "occupancy": [int],
        "emptying": [{"allocator": str, "percent": int, "arenas": int, "freed_bytes": int, "moved_bytes": int}]},
    "pins": {
        "below_percent": int,
        "pins": [{"allocator": str, "type": str, "held_by": (str, None), "count": int, "bytes": int, "kept_bytes": int,
                  "arenas": int, "alone_in": int, "alone_bytes": int, "objects": [ADDRESS]}],
        "pins_count": int, "allocators": [dict(PINNED, allocator=str)], "total": PINNED},
    "refs": {
        "addresses": [{
            "asked": ADDRESS, "address": (ADDRESS, None), "type": (str, None), "bytes": int, "out": [REFERENCE],
            "out_count": int, "in": [REFERENCE], "in_count": int}]},
    "audit": {"types": [{"type": str, "count": int, "bytes": int, "excess_references": int, "lost": int, "example": ADDRESS}],
              "types_count": int, "objects_count": int, "excess_references": int,
              "objects": [{"address": ADDRESS, "type": str, "refcount": int, "excess_references": int, "lost": bool}]},
    "paths": {"paths": [{"text": str, "root": {"kind": str, "name": str}, "omitted_steps": int, "count": int, "bytes": int,
                         "steps": [{"address": ADDRESS, "type": str, "edge": str}]}],
              "paths_count": int, "total": COUNTED},
    "retained": {"objects": [RETAINED], "objects_count": int, "accumulation_points": [RETAINED],
                 "types": [{"module": str, "name": str, "count": int, "bytes": int, "retained_bytes": int}],
                 "modules": [{"module": str, "count": int, "bytes": int, "retained_bytes": int}], "total": COUNTED},
    "cycles": {
        "cycles": [{"types": [str], "edges": [str], "closing_edge": str, "text": str, "reachable": bool, "garbage": bool,
                    "count": int, "objects": int, "bytes": int, "retained_bytes": int, "example": ADDRESS}],
        "cycles_count": int, "frozen": int, "gc_enabled": bool,
        "garbage": {"count": int, "bytes": int, "retained_bytes": int, "types_count": int,
                    "types": [{"module": str, "name": str, "count": int, "bytes": int, "has_finalizer": bool}]},
        "generations": [{"tracked": int, "garbage": int}], "gc_garbage": ({"address": ADDRESS, "count": int}, None)},
    "show": {
        "addresses": [{
            "address": ADDRESS,
            "mapping": ({"start": ADDRESS, "end": ADDRESS, "permissions": str, "path": (str, None)}, None),
            "module": ({"path": str, "offset": int, "symbol": (str, None)}, None),
            "malloc": ({"what": str}, None),
            "block": ({"allocator": str, "arena": ADDRESS, "pool": (ADDRESS, None), "address": (ADDRESS, None),
                       "bytes": int, "state": re.compile("in_use$|free$|never_used$|header$")}, None),
            "object": ({"address": ADDRESS, "offset": int, "type": str, "type_address": ADDRESS, "kind": str,
                        "refcount": (int, None), "immortal": bool, "tracked": bool, "bytes": int, "value": str,
                        "length": (int, None), "fields": [NAMED], "attributes": [NAMED], "locals": [NAMED],
                        "items": [{"value": str, "address": (ADDRESS, None)}], "pointers": [NAMED]}, None)}]},
    "verify": {"consistent": bool, "whole": bool, "checks": [{"allocator": str, "what": str, "checked": int}],
               "findings": [{"code": str, "message": str, "address": (ADDRESS, None)}]},
    "threads": {
        "threads": [{
            "tid": (int, None), "name": (str, None), "python_name": (str, None), "state": (ADDRESS, None),
            "interpreter": (int, None), "cut_short": (str, None),
            "frames": [{"kind": re.compile("python$|native$"), "function": (str, None), "file": (str, None),
                        "line": (int, None), "address": ADDRESS}]}],
        "tasks": [{"address": ADDRESS, "name": (str, None), "state": str, "coroutine": (ADDRESS, None),
                   "function": (str, None), "file": (str, None), "line": (int, None), "waits_for": (ADDRESS, None),
                   "waits_for_type": (str, None), "retained_bytes": int}],
        "tasks_ended": int},
    "trace": {
        "tracing": bool, "located_by": (str, None), "max_frames": (int, None), "peak_bytes": (int, None), "group_by": str,
        "sites": [{"frames": [{"filename": str}], "count": int, "bytes": int, "retained_bytes": int,
                   "types": [{"type": str, "count": int, "bytes": int}], "largest": (ADDRESS, None), "path": str}],
        "sites_count": int, "matched": COUNTED, "total": COUNTED},
    "waste": {
        "waste": [dict(WASTED, kind=str, held_by=(str, None))], "waste_count": int,
        "strings": [dict(WASTED, length=int, held_by=(str, None), text=(str, None))], "strings_count": int,
        "kinds": {}, "total": {"count": int, "bytes": int, "wasted_bytes": int}},
    "diff": {"older": {"path": str, "pid": int}, "types_count": int, "total": GROWTH, "holders_count": int,
             "types": [dict(GROWTH, module=str, name=str)],
             "holders": [{"type": str, "held_by": str, "count": int, "retained_bytes": int, "example": ADDRESS}],
             "allocators": [{"what": str, "older_bytes": int, "newer_bytes": int, "grown_bytes": int}],
             "ledger": [{"what": str, "older_bytes": int, "newer_bytes": int, "grown_bytes": int}]},
    "report": {
        "findings": [{"code": str, "severity": re.compile("high$|medium$|low$"), "title": str, "bytes": int, "evidence": [str],
                      "advice": str, "objects": [ADDRESS]}],
        "ledger": {}, "retained": ({}, None), "types": ({}, None), "cycles": ({}, None), "audit": ({}, None),
        "threads": ({}, None), "pymalloc": ({}, None), "malloc": ({}, None),
        "native": ({"total": COUNTED, "classes_count": int, "clusters_count": int,
                    "classes": [{"name": str, "module": str, "count": int, "bytes": int, "unowned": COUNTED, "samples": [SAMPLE]}],
                    "clusters": [{"size_from": int, "size_to": int, "first_word": (str, None), "content": str, "held_by": (str, None),
                                  "count": int, "bytes": int, "samples": [SAMPLE]}]}, None),
        "confidence": {"mapped_bytes": int, "explained_bytes": int, "not_dumped_bytes": int, "cannot_tell": [str]}},
}

OPTIONAL_KEYS = {"address"}  # of a warning: not every warning has a place


def contract_errors(value, spec, path="document"):
    """Every way in which `value` breaks `spec`; more keys than the contract names are welcome."""
    if isinstance(spec, tuple):
        alternatives = [contract_errors(value, s, path) for s in spec]
        return [] if [] in alternatives else alternatives[0]
    if spec is None:
        return [] if value is None else ["%s is not null" % path]
    if isinstance(spec, dict):
        if not isinstance(value, dict):
            return ["%s is not an object" % path]
        errors = []
        for key, inner in spec.items():
            if key in value:
                errors += contract_errors(value[key], inner, path + "." + key)
            elif key not in OPTIONAL_KEYS or path.endswith("arenas[]"):
                errors.append("%s.%s is missing" % (path, key))
        return errors
    if isinstance(spec, list):
        if not isinstance(value, list):
            return ["%s is not an array" % path]
        return [e for item in value for e in contract_errors(item, spec[0], path + "[]")][:5]
    if isinstance(spec, re.Pattern):
        good = isinstance(value, str) and spec.match(value)
        return [] if good else ["%s is %r, not %s" % (path, value, spec.pattern)]
    if isinstance(value, bool) and spec is not bool or not isinstance(value, spec):
        return ["%s is %r, not of type %s" % (path, value, spec.__name__)]
    return []


def check_contract(answer):
    """The document of an answer that must have worked, its contract checked."""
    if answer.status not in (0, 1):
        raise AssertionError("%s did not answer" % answer)
    document = answer.document
    errors = contract_errors(document, HEADER)
    if not errors:
        errors = contract_errors(document, COMMANDS[document["command"]])
    if errors:
        raise AssertionError("%s breaks the contract: %s" % (answer, "; ".join(errors[:10])))
    if (answer.status == 1) != bool(document["warnings"]):  # what takes nothing from the answer is among the "notes"
        raise AssertionError("%s: the status does not fit the warnings: %s" % (answer, document["warnings"][:3]))
    return document


# ---- truth -----------------------------------------------------------------------------------------------------------

def rows_by_type(rows):
    """{(module, name): (count, bytes)}; types of the same name are added up."""
    table = {}
    for row in rows:
        key = row["module"], row["name"]
        old = table.get(key, (0, 0))
        table[key] = (old[0] + row["count"], old[1] + row.get("bytes", 0))
    return table


def differences(expected, actual, limit=12):
    """Lines that say where two tables differ; none if they are equal."""
    lines = ["%s: expected %s, got %s" % (".".join(map(str, key)) if isinstance(key, tuple) else key,
                                          expected.get(key), actual.get(key))
             for key in sorted(set(expected) | set(actual)) if expected.get(key) != actual.get(key)]
    return lines if len(lines) <= limit else lines[:limit] + ["and %d more" % (len(lines) - limit)]


def twice_malloc_info(text):
    return parse_malloc_info(twice(text, "</malloc>") + "</malloc>")


def twice(text, end):
    """The halves of a text that a target wrote twice in its final state; they must be the same."""
    parts = [part.strip() for part in text.split(end) if part.strip()]
    if len(parts) != 2 or parts[0] != parts[1]:
        raise AssertionError("the target's state was not final: %d parts, or they differ" % len(parts))
    return parts[0]


def parse_debugmallocstats(text):
    """sys._debugmallocstats() as numbers: {"classes": {block_bytes: (pools, in use, free)}, "arenas": ..., ...}. Of a
    free-threaded build, where that counts nothing, {"allocated_blocks": what sys.getallocatedblocks() said last}."""
    blocks = re.findall(r"^allocated blocks: (\d+)$", text, re.M)
    if blocks:
        return {"allocated_blocks": int(blocks[-1])}
    start = "Small block threshold"
    text = twice(text[text.index(start):], start)
    number = r"\s*=\s*([\d,]+)"

    def total(pattern):
        return int(re.search(pattern + number, text, re.M).group(1).replace(",", ""))

    classes = {int(m[1]): (int(m[2]), int(m[3]), int(m[4]))
               for m in re.finditer(r"^\s*(?:\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s*$", text, re.M)}
    arenas, arena_bytes = re.search(r"^(\d+) arenas \* (\d+) bytes/arena", text, re.M).groups()
    free_pools, pool_bytes = re.search(r"^(\d+) unused pools \* (\d+) bytes", text, re.M).groups()
    return {"classes": classes, "arenas": int(arenas), "arena_bytes": int(arena_bytes), "free_pools": int(free_pools),
            "pool_bytes": int(pool_bytes), "bytes_in_use": total("^# bytes in allocated blocks"),
            "bytes_free": total("^# bytes in available blocks"),
            "bytes_overhead": sum(total("^# bytes lost to " + what)
                                  for what in ("pool headers", "quantization", "arena alignment"))}


def pymalloc_truth(target):
    """What sys._debugmallocstats() says of a target's obmalloc, by parse_debugmallocstats. Where it has no such function
    (2.7), what the allocator's own variables say, if their symbols are there; else None."""
    text = target.stderr()
    if "Small block threshold" in text or "allocated blocks" in text:
        return parse_debugmallocstats(text)
    for start, path in target.libraries():
        if "python" not in os.path.basename(path):
            continue
        with elf.Elf(path) as file:
            base = 0 if file.header.type == elf.ET_EXEC else start
            symbols = {s.name: base + s.value for s in file.symbols(elf.SHT_SYMTAB) if s.name in ("arenas", "maxarenas")}
        if len(symbols) == 2:
            return obmalloc_2_7(target, symbols["arenas"], symbols["maxarenas"])
    skipped("pymalloc's counts", "this interpreter has neither sys._debugmallocstats() nor symbols")
    return None


def obmalloc_2_7(target, arenas, maxarenas):
    """The counts of parse_debugmallocstats from CPython 2.7's variables (Objects/obmalloc.c)."""
    arena_bytes, pool_bytes, header_bytes = 256 << 10, 4 << 10, 48
    table, count = target.words(arenas, "Q")[0], target.words(maxarenas, "I")[0]
    classes, free_pools, overhead = {}, 0, 0
    number_of_arenas = 0
    for i in range(count):
        address, carved_end, arena_free, total = target.words(table + 48 * i, "QQII")
        if address == 0:
            continue
        number_of_arenas += 1
        first = -(-address // pool_bytes) * pool_bytes
        used = 0
        overhead += arena_bytes - total * pool_bytes
        for pool in range(first, carved_end, pool_bytes):
            blocks, largest_offset = target.words(pool, "I40xI")
            if blocks == 0:
                continue
            used += 1
            size = pool_bytes - largest_offset
            capacity = (pool_bytes - header_bytes) // size
            old = classes.get(size, (0, 0, 0))
            classes[size] = (old[0] + 1, old[1] + blocks, old[2] + capacity - blocks)
            overhead += pool_bytes - capacity * size
        assert total - used == arena_free
        free_pools += arena_free
    return {"classes": classes, "arenas": number_of_arenas, "arena_bytes": arena_bytes, "free_pools": free_pools,
            "pool_bytes": pool_bytes, "bytes_in_use": sum(size * c[1] for size, c in classes.items()),
            "bytes_free": sum(size * c[2] for size, c in classes.items()), "bytes_overhead": overhead}


MIN_LARGE_BYTES = 1024  # glibc's MIN_LARGE_SIZE on 64 bits
FLAG_BITS = 15
ARENA_OVERHEAD_BYTES = 4096  # more than a heap_info, a malloc_state and the closing fence of a heap


def parse_malloc_info(text):
    """malloc_info() as numbers. It adds the flag bits of a chunk's size field to the sizes of binned chunks, so byte
    sums of bins are given as they stand, to be compared with `bin_bytes_agree`; top, fast and system bytes are exact.
    """
    root = xml.etree.ElementTree.fromstring(text)
    arenas = []
    for heap in root.iter("heap"):
        totals = {t.get("type"): (int(t.get("count")), int(t.get("size"))) for t in heap.findall("total")}
        system = {s.get("type"): int(s.get("size")) for s in heap.findall("system")}
        bins = {kind: [0, 0] for kind in ("fast", "unsorted", "small", "large")}
        for item in heap.find("sizes") if heap.find("sizes") is not None else ():
            largest, count, total = int(item.get("to")), int(item.get("count")), int(item.get("total"))
            if item.tag == "unsorted":
                kind = "unsorted"
            elif largest & FLAG_BITS == 0:
                kind = "fast"
            else:
                kind = "small" if largest & ~FLAG_BITS < MIN_LARGE_BYTES else "large"
            bins[kind][0] += count
            bins[kind][1] += total
        binned_bytes = sum(bins[k][1] for k in ("unsorted", "small", "large"))
        aspace = {a.get("type"): int(a.get("size")) for a in heap.findall("aspace")}
        arenas.append({"system_bytes": system["current"], "max_system_bytes": system["max"],
                       "heaps": aspace.get("subheaps", 1), "top_bytes": totals["rest"][1] - binned_bytes,
                       "free": {k: tuple(v) for k, v in bins.items()}})
    mmapped = root.find("total[@type='mmap']")
    return {"arenas": arenas, "mmapped": (int(mmapped.get("count")), int(mmapped.get("size")))}


def bin_bytes_agree(info_count, info_bytes, actual_bytes, is_main):
    """Each binned chunk adds 1 (its PREV_INUSE bit), and outside the main arena 0 or 4 (NON_MAIN_ARENA) on top."""
    extra = info_bytes - actual_bytes - info_count
    return extra == 0 if is_main else 0 <= extra <= 4 * info_count and extra % 4 == 0


def pymalloc_differences(truth, document):
    """Where heapcore's pymalloc document differs from sys._debugmallocstats(), which counts the bytes of free pools
    apart from those of free blocks."""
    total = document["total"]
    classes = {c["block_bytes"]: (c["pools"], c["blocks_in_use"], c["blocks_free"])
               for c in document["classes"] if c["pools"]}
    expected_classes = {int(size): tuple(numbers) for size, numbers in truth["classes"].items()}
    expected = {"arenas": truth["arenas"], "bytes": truth["arenas"] * truth["arena_bytes"],
                "pools": sum(pools for pools, _, _ in expected_classes.values()), "free_pools": truth["free_pools"],
                "blocks_in_use": sum(in_use for _, in_use, _ in expected_classes.values()),
                "bytes_in_use": truth["bytes_in_use"], "bytes_overhead": truth["bytes_overhead"],
                "bytes_free": truth["bytes_free"] + truth["free_pools"] * truth["pool_bytes"]}
    errors = differences(expected_classes, classes, limit=50) + differences(expected, {k: total[k] for k in expected})
    for column in ("pools", "free_pools", "blocks_in_use", "bytes_in_use"):
        errors += differences({column: total[column]}, {column: sum(a[column] for a in document["arenas"])})
    for column in ("arena_bytes", "pool_bytes"):
        errors += differences({column: truth[column]}, {column: document[column]})
    return errors


def mimalloc_differences(truth, document):
    """Where heapcore's pymalloc document of a free-threaded build differs from what is known of mimalloc's blocks, or
    from itself."""
    total = document["total"]
    errors = differences({"allocator": "mimalloc", "blocks": True},
                         {"allocator": document["allocator"],
                          "blocks": total["blocks_in_use"] == sum(c["blocks_in_use"] for c in document["classes"])})
    errors += differences({"bytes": total["bytes"]},
                          {"bytes": sum(total[part] for part in ("bytes_in_use", "bytes_free", "bytes_overhead"))})
    for column in ("pools", "free_pools", "blocks_in_use", "bytes_in_use"):
        errors += differences({column: total[column]}, {column: sum(a[column] for a in document["arenas"])})
    # sys.getallocatedblocks() counts before it makes its own result, and also what other threads freed.
    few = truth["allocated_blocks"] - total["blocks_in_use"]
    if not -MEASURING_BLOCKS <= few <= truth["allocated_blocks"] // 1000:
        errors.append("blocks in use: sys.getallocatedblocks() says %d, heapcore %d"
                      % (truth["allocated_blocks"], total["blocks_in_use"]))
    return errors


MEASURING_BLOCKS = 4


def malloc_differences(truth, document, foreign_bytes=0):
    """Where heapcore's malloc document differs from malloc_info, which counts the chunks of tcaches as in use.

    `foreign_bytes`: at most how much of the main arena belongs to others who called sbrk; glibc counts it as its own.
    """
    errors = []

    def expect(what, expected, actual):
        if expected != actual:
            errors.append("%s: malloc_info says %s, heapcore %s" % (what, expected, actual))

    expect("number of arenas", len(truth["arenas"]), len(document["arenas"]))
    count, mmapped_bytes = truth["mmapped"]
    extra = mmapped_bytes - document["mmapped"]["bytes"]
    if (document["target"]["libc"] or "") >= "glibc 2.43" and 0 <= extra < 4096 and extra % 16 == 0:
        mmapped_bytes -= extra  # it counts 16 bytes too many whenever realloc() has mremap() change a chunk
    expect("mmapped (count, bytes)", (count, mmapped_bytes), (document["mmapped"]["count"], document["mmapped"]["bytes"]))
    for i, (info, arena) in enumerate(zip(truth["arenas"], document["arenas"])):
        for key in ("system_bytes", "max_system_bytes", "top_bytes", "heaps"):
            expect("arena %d, %s" % (i, key), info[key], arena[key])
        free = arena["free"]
        for kind, (count, total) in info["free"].items():
            expect("arena %d, %s chunks" % (i, kind), count, free[kind]["count"])
            agree = total == free[kind]["bytes"] if kind == "fast" else \
                bin_bytes_agree(count, total, free[kind]["bytes"], arena["main"])
            if not agree:
                expect("arena %d, %s bytes (flag bits included)" % (i, kind), total, free[kind]["bytes"])
        accounted = arena["in_use"]["bytes"] + arena["top_bytes"] + sum(kind["bytes"] for kind in free.values())
        overhead = info["system_bytes"] - accounted
        if arena["main"]:
            if not 0 <= overhead <= foreign_bytes:
                expect("arena %d, bytes in no chunk" % i, "0 to %d" % foreign_bytes, overhead)
        elif not 0 < overhead <= arena["heaps"] * ARENA_OVERHEAD_BYTES:
            errors.append("arena %d: %d bytes are in no chunk" % (i, overhead))
    return errors
