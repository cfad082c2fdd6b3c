"""Cores made small: of the files that a process had mapped only those pages stay that somebody asks for."""

import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tests", "live"))
import elf  # noqa: E402

PAGE = 4096
OBJECT_BYTES = 16  # sizeof(PyObject) of most builds


class Core:
    """A core of the kernel's, with random access to its memory. `root`: what the process saw as its root folder."""

    def __init__(self, path, root=""):
        self.root = root
        self.elf = elf.Elf(path)
        self.loads = self.elf.loads()
        self.files = self.elf.file_ranges()

    def read(self, address, size):
        for p in self.loads:
            if p.vaddr <= address and address + size <= p.vaddr + p.filesz:
                return self.elf.read(p.offset + address - p.vaddr, size)
        return b""

    def word(self, address):
        data = self.read(address, 8)
        return struct.unpack("<Q", data)[0] if data else 0

    def file_at(self, address):
        return next((f for f in self.files if f.start <= address < f.end), None)

    def mappings_of(self, path):
        return [f for f in self.files if f.path == path]

    def bias(self, path, file):
        first = min(p.vaddr for p in file.loads()) & ~(PAGE - 1)
        return min(f.start for f in self.mappings_of(path)) - first

    def symbols_of(self, path):
        """Dynamic symbols of a mapped file, at their addresses in the process."""
        with elf.Elf(self.root + path) as file:
            bias = self.bias(path, file)
            return {s.name: elf.Symbol(s.name, s.value + bias, s.size) for s in file.symbols(elf.SHT_DYNSYM) if s.value}

    def relro_of(self, path):
        """What the dynamic linker wrote and then made read-only: .dynamic, .got and the like."""
        with elf.Elf(self.root + path) as file:
            return [(p.vaddr + self.bias(path, file), p.memsz) for p in file.phdrs() if p.type == elf.PT_GNU_RELRO]


def pages(start, size):
    return range(start // PAGE * PAGE, start + max(size, 1), PAGE)


def static_type_names(core, type_type, object_bytes=OBJECT_BYTES):
    """Pages that hold tp_name of static types: of every word of writable memory that looks like the ob_type of a type,
    where the type's tp_name points into a file mapping."""
    needed = set()
    ob_type, tp_name = object_bytes - 8, object_bytes + 8  # PyTypeObject begins with a PyVarObject
    pattern = struct.pack("<Q", type_type)
    for p in core.loads:
        if not p.flags & elf.PF_W:
            continue
        data = core.elf.read(p.offset, p.filesz)
        at = data.find(pattern, ob_type)
        while 0 <= at < len(data) - tp_name:
            name = struct.unpack_from("<Q", data, at - ob_type + tp_name)[0]
            if core.file_at(name):
                needed.update(pages(name, 64))
            at = data.find(pattern, at + 8)
    return needed


def method_names(core):
    """Pages that hold ml_name of what looks like a PyMethodDef: a text in a file's constants, and a function behind it."""
    constants = [p for p in core.loads if not p.flags & (elf.PF_W | elf.PF_X) and core.file_at(p.vaddr)]
    code = [p for p in core.loads if p.flags & elf.PF_X and core.file_at(p.vaddr)]
    needed = set()
    for p in core.loads:
        if p.flags & elf.PF_X or not core.file_at(p.vaddr):
            continue
        words = memoryview(core.elf.read(p.offset, p.filesz // 8 * 8)).cast("Q")
        for name, function in zip(words, words[1:]):
            if function and is_in(name, constants) and is_in(function, code):
                needed.update(pages(name, 64))
    return needed


def heap_constants(core):
    """Pages of files' constants that anonymous memory points to, such as the descriptors of array.array's items."""
    constants = [p for p in core.loads if not p.flags & (elf.PF_W | elf.PF_X) and core.file_at(p.vaddr)]
    needed = set()
    for p in core.loads:
        if p.flags & elf.PF_W and not core.file_at(p.vaddr):
            for word in set(memoryview(core.elf.read(p.offset, p.filesz // 8 * 8)).cast("Q")):
                if is_in(word, constants):
                    needed.update(pages(word, 64))
    return needed


def is_in(address, segments):
    return any(p.vaddr <= address < p.vaddr + p.filesz for p in segments)


def slim(core, needed, path):
    """Rewrites the core: read-only file mappings are cut into runs of pages that stay and runs that are not dumped."""
    headers, chunks = [], []
    for p in core.elf.phdrs():
        data = core.elf.read(p.offset, p.filesz)
        if p.type == elf.PT_NOTE:  # floating point state is long and tells nothing
            useless = (elf.NT_FPREGSET, elf.NT_X86_XSTATE)
            data = elf.build_notes(n for n in elf.parse_notes(data) if n.type not in useless)
            p = p._replace(filesz=len(data))
        if p.type != elf.PT_LOAD or p.flags & elf.PF_W or not core.file_at(p.vaddr):
            headers.append(p)
            chunks.append(data)
            continue
        start = p.vaddr
        while start < p.vaddr + p.memsz:
            keep, end = start in needed, start
            while end < p.vaddr + p.memsz and (end in needed) == keep:
                end += PAGE
            headers.append(p._replace(vaddr=start, filesz=end - start if keep else 0, memsz=end - start))
            chunks.append(data[start - p.vaddr:end - p.vaddr] if keep else b"")
            start = end
    offset = elf.HEADER.size + len(headers) * elf.PHDR.size
    with open(path, "wb") as out:
        header = core.elf.header._replace(phoff=elf.HEADER.size, phnum=len(headers), shoff=0, shnum=0, shstrndx=0)
        out.write(elf.HEADER.pack(*header))
        placed = []
        for p, data in zip(headers, chunks):
            offset = -(-offset // PAGE) * PAGE if p.type == elf.PT_LOAD and data else offset
            placed.append(p._replace(offset=offset))
            offset += len(data)
        out.write(b"".join(elf.PHDR.pack(*p) for p in placed))
        for p, data in zip(placed, chunks):
            out.seek(p.offset)
            out.write(data)
