"""The Pythons of Debian's suites, release and debug builds, run beside the machine's own: fetched, unpacked, never installed.

    python3 debian_pythons.py [SUITE]...    fetches them and prints where they are
"""

import contextlib
import glob
import os
import shutil
import subprocess
import sys
import tempfile

import glibcs
import harness

SUITES = {"bullseye": ("2.7", "3.9"), "bookworm": ("3.11",), "trixie": ("3.13",), "forky": ("3.13",), "sid": ("3.14", "3.15")}
LIBRARIES = ("libc6", "libgcc-s1", "libstdc[+][+]6", "zlib1g", "libexpat1", "libffi[0-9]+", "libmpdec[0-9]+", "libuuid1", "libzstd1",
             "libbz2-1[.]0", "liblzma5", "libcrypt1", "libssl1[.]1", "libssl3(t64)?", "libxxhash0")
FETCH_SECONDS = 560


def packages(minor):
    name = "python" + minor.replace(".", "[.]")
    return ["(lib)?%s-(minimal|dbg)" % name, "lib%s-stdlib" % name]


class Root:
    """What a suite's packages hold, as a root folder."""

    def __init__(self, suite, path):
        self.suite, self.path = suite, path
        self.loader = os.path.realpath(glob.glob(os.path.join(path, "**", "ld-linux-x86-64.so.2"), recursive=True)[0])
        self.library_path = ":".join(sorted({os.path.dirname(lib) for lib in glob.glob(
            os.path.join(path, "**", "x86_64-linux-gnu", "lib*.so.*"), recursive=True)}))

    def programs(self):
        """{"3.11": path, "3.11d": path}: scripts that start the interpreter with its own libraries. CPython of a debug build
        has Py_DEBUG set."""
        found = {}
        for minor in SUITES[self.suite]:
            for flavour, names in (("", ("python" + minor,)), ("d", ("python%sd" % minor, "python%s-dbg" % minor))):
                for name in names:
                    binary = os.path.join(self.path, "usr", "bin", name)
                    if os.path.exists(binary):
                        found[minor + flavour] = self._script(binary, "python" + minor + flavour)
        return found

    def _script(self, binary, name):
        script = os.path.join(self.path, "run", name)
        if not os.path.exists(script):
            os.makedirs(os.path.dirname(script), exist_ok=True)
            with open(script + ".new", "w") as file:
                file.write('#!/bin/sh\nPYTHONHOME=%s exec %s --library-path %s %s "$@"\n'
                           % (os.path.join(self.path, "usr"), self.loader, self.library_path, binary))
            os.chmod(script + ".new", 0o755)
            os.rename(script + ".new", script)
        return script


def unpack(deb, root):
    """All but documentation and what only a debugger reads."""
    archive = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", root, "--exclude=./usr/lib/debug", "--exclude=./usr/share", "--exclude=*.a",
                    "--exclude=./usr/lib/x86_64-linux-gnu/gconv"], stdin=archive.stdout, check=True)
    archive.stdout.close()
    if archive.wait():
        raise OSError("%s cannot be unpacked" % deb)


def fetch(suite):
    """The suite's Root, or a sentence why it cannot be had."""
    path = os.path.join(os.path.dirname(glibcs.cache_folder()), "pythons", suite)
    if not os.path.isdir(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        scratch = tempfile.mkdtemp(dir=os.path.dirname(path))
        try:
            script = os.path.join(harness.ROOT, "script", "fetch-suite")
            wanted = list(LIBRARIES) + [name for minor in SUITES[suite] for name in packages(minor)]
            run = subprocess.run([script, suite, os.path.join(scratch, "debs"), *wanted], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=FETCH_SECONDS)
            if run.returncode:
                return " ".join(run.stdout.split())[-200:]
            root = os.path.join(scratch, "root")
            os.mkdir(root)
            for deb in sorted(glob.glob(os.path.join(scratch, "debs", "*.deb"))):
                unpack(deb, root)
            with contextlib.suppress(OSError):  # another test was quicker
                os.rename(root, path)
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)[-200:]
        finally:
            shutil.rmtree(scratch, True)
    try:
        return Root(suite, path)
    except (IndexError, OSError) as error:
        return "%s: %s" % (suite, error)


if __name__ == "__main__":
    for each in sys.argv[1:] or SUITES:
        root = fetch(each)
        print(each, root if isinstance(root, str) else root.programs())
