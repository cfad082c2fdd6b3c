"""Other releases' glibc, run beside the machine's own: fetched from Debian's suites, unpacked, never installed."""

import contextlib
import glob
import os
import shutil
import subprocess
import tempfile

import harness

SUITES = {"bullseye": "2.31", "bookworm": "2.36", "trixie": "2.41", "sid": "2.43", "experimental": "2.44"}
FETCH_SECONDS = 300


def cache_folder():
    """Beside the skipped log: the folder of the build. Without one, a folder that this user keeps."""
    log = os.environ.get("HEAPCORE_SKIPPED_LOG")
    base = os.path.dirname(os.path.abspath(log)) if log else os.path.join(tempfile.gettempdir(), "heapcore-%d" % os.getuid())
    return os.path.join(base, "glibcs")


class Glibc:
    """One release: `root` is what its packages hold, and nothing else."""

    def __init__(self, suite, root):
        self.suite, self.root = suite, root
        self.loader = self._one("ld-linux-x86-64.so.2")
        self.libc = self._one("libc.so.6")
        self.folder = os.path.dirname(self.libc)
        with open(self.libc, "rb") as file:
            banner = file.read().split(b"stable release version ", 1)[1]
        self.version = banner.split(b".\n", 1)[0].decode().rstrip(".")

    def _one(self, name):
        found = [path for path in glob.glob(os.path.join(self.root, "**", name), recursive=True) if "/debug/" not in path]
        if not found:
            raise RuntimeError("%s: the package has no %s" % (self.suite, name))
        return os.path.realpath(found[0]) if name.startswith("ld-") else found[0]

    @property
    def debug_root(self):
        return os.path.join(self.root, "usr", "lib", "debug")

    def libraries(self):
        """What a program with threads needs of it; threads have been a part of libc since 2.34."""
        pthread = os.path.join(self.folder, "libpthread.so.0")
        return [self.libc] + ([pthread] if os.path.getsize(pthread) > 50000 else [])

    def build(self, source, program, *options):
        subprocess.run(["cc", "-O0", "-w", "-pthread", "-nodefaultlibs", *options, "-o", program, source, *self.libraries(), "-lgcc",
                        "-Wl,--allow-shlib-undefined"], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def argv(self, *command):
        return [self.loader, "--library-path", self.folder, *command]


def fetch(suite):
    """The suite's glibc with its debug files, or a sentence why it cannot be had."""
    root = os.path.join(cache_folder(), suite)
    if not os.path.isdir(root):
        os.makedirs(os.path.dirname(root), exist_ok=True)
        scratch = tempfile.mkdtemp(dir=os.path.dirname(root))
        try:
            script = os.path.join(harness.ROOT, "script", "fetch-suite")
            run = subprocess.run([script, suite, os.path.join(scratch, "debs"), "libc6", "libc6-dbg"], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=FETCH_SECONDS)
            if run.returncode:
                return " ".join(run.stdout.split())[-200:]
            for deb in glob.glob(os.path.join(scratch, "debs", "*.deb")):
                subprocess.run(["dpkg-deb", "-x", deb, os.path.join(scratch, "root")], check=True)
            with contextlib.suppress(OSError):  # another test was quicker
                os.rename(os.path.join(scratch, "root"), root)
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)[-200:]
        finally:
            shutil.rmtree(scratch, True)
    try:
        return Glibc(suite, root)
    except (RuntimeError, IndexError, OSError) as error:
        return str(error)
