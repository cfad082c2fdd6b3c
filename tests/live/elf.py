"""As much of ELF64 as the tests need, written from the gABI and not from heapcore: an independent second opinion.

Reads little-endian ELF64 only. Addresses and sizes are bytes. Does not check hostile input: the tests read files that
gdb, the kernel or a linker wrote.
"""

import collections
import struct

PT_LOAD, PT_NOTE, PT_GNU_RELRO = 1, 4, 0x6474E552
PF_X, PF_W, PF_R = 1, 2, 4
ET_EXEC, ET_CORE = 2, 4
EM_AARCH64 = 183
SHT_SYMTAB, SHT_DYNSYM = 2, 11
NT_FPREGSET, NT_AUXV, NT_X86_XSTATE, NT_FILE = 2, 6, 0x202, 0x46494C45

Header = collections.namedtuple(
    "Header", "ident type machine version entry phoff shoff flags ehsize phentsize phnum shentsize shnum shstrndx")
Phdr = collections.namedtuple("Phdr", "type flags offset vaddr paddr filesz memsz align")
Shdr = collections.namedtuple("Shdr", "name type flags addr offset size link info addralign entsize")
Note = collections.namedtuple("Note", "name type data")
FileRange = collections.namedtuple("FileRange", "start end file_offset path")
Symbol = collections.namedtuple("Symbol", "name value size")

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR = struct.Struct("<IIQQQQQQ")
SHDR = struct.Struct("<IIQQQQIIQQ")


class Elf:
    """One ELF file, read piecewise: cores are large."""

    def __init__(self, path):
        self.path = path
        self.file = open(path, "rb")
        self.header = Header._make(HEADER.unpack(self.file.read(HEADER.size)))
        if self.header.ident[:6] != b"\x7fELF\x02\x01":
            raise ValueError("%s is not a little-endian ELF64 file" % path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def read(self, offset, size):
        self.file.seek(offset)
        return self.file.read(size)

    def phdrs(self):
        count = self.header.phnum
        if count == 0xFFFF:  # PN_XNUM: the real number is in the first section header's sh_info
            count = Shdr._make(SHDR.unpack(self.read(self.header.shoff, SHDR.size))).info
        table = self.read(self.header.phoff, count * PHDR.size)
        return [Phdr._make(fields) for fields in PHDR.iter_unpack(table)]

    def shdrs(self):
        table = self.read(self.header.shoff, self.header.shnum * SHDR.size)
        return [Shdr._make(fields) for fields in SHDR.iter_unpack(table)]

    def loads(self):
        return [p for p in self.phdrs() if p.type == PT_LOAD]

    def symbols(self, section_type):
        sections = self.shdrs()
        for section in sections:
            if section.type != section_type:
                continue
            strings = self.read(sections[section.link].offset, sections[section.link].size)
            table = self.read(section.offset, section.size)
            for name, _, _, _, value, size in struct.iter_unpack("<IBBHQQ", table):
                yield Symbol(strings[name:strings.index(b"\0", name)].decode(), value, size)

    def has_symtab(self):
        return any(s.type == SHT_SYMTAB for s in self.shdrs())

    def notes(self):
        for p in self.phdrs():
            if p.type == PT_NOTE:
                yield from parse_notes(self.read(p.offset, p.filesz))

    def file_ranges(self):
        for note in self.notes():
            if note.type == NT_FILE and note.name == b"CORE":
                return parse_nt_file(note.data)
        return []


def align4(n):
    return (n + 3) & ~3


def parse_notes(data):
    at = 0
    while at + 12 <= len(data):
        name_size, data_size, note_type = struct.unpack_from("<III", data, at)
        name = data[at + 12:at + 12 + name_size].rstrip(b"\0")
        start = at + 12 + align4(name_size)
        yield Note(name, note_type, data[start:start + data_size])
        at = start + align4(data_size)


def build_notes(notes):
    out = b""
    for note in notes:
        name = note.name + b"\0"
        out += struct.pack("<III", len(name), len(note.data), note.type)
        out += name.ljust(align4(len(name)), b"\0") + note.data.ljust(align4(len(note.data)), b"\0")
    return out


def parse_nt_file(data):
    count, page_size = struct.unpack_from("<QQ", data)
    names = data[16 + count * 24:].split(b"\0")
    ranges = []
    for i in range(count):
        start, end, page = struct.unpack_from("<QQQ", data, 16 + i * 24)
        ranges.append(FileRange(start, end, page * page_size, names[i].decode("utf-8", "surrogateescape")))
    return ranges


def union_bytes(ranges):
    """How many bytes [start, end) pairs cover together."""
    total, reached = 0, 0
    for start, end in sorted(ranges):
        start = max(start, reached)
        if end > start:
            total += end - start
            reached = end
    return total


def core_mapped_bytes(path, below=1 << 63):
    """The bytes a core says the process had mapped: its PT_LOADs and the file mappings of NT_FILE, each byte once."""
    with Elf(path) as core:
        ranges = [(p.vaddr, p.vaddr + p.memsz) for p in core.loads()]
        ranges += [(f.start, f.end) for f in core.file_ranges()]
    return union_bytes([r for r in ranges if r[0] < below])
