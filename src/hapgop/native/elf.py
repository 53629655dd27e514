"""Objects into memory without LLVM: loading LLVM takes longer than a small net's first answer, and a warm start needs
nothing else of it.

Code for the large code model refers to everything by its distance from the table of offsets. So an object of ours is
copied as it is, and a few distances are filled in. An object that needs more goes to LLVM's own loader.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_WORD = struct.Struct("<Q")

_X86_64, _RELOCATABLE = 62, 1
_SYMBOLS, _RELOCATIONS, _NOTHING = 2, 4, 8  # the last: sections without bytes in the file
_WRITABLE, _LOADED, _OF_THREADS = 1, 2, 0x400
_GOT64, _GOTOFF64, _GOTPC64 = 27, 25, 29
_KIND = 0xFFFFFFFF  # of a relocation; above it is the number of its symbol
_TABLE = "_GLOBAL_OFFSET_TABLE_"
_MOST = 1 << 26  # bytes of one object in memory


class Unknown(RuntimeError):
    """The object needs what this loader does not do."""


def supported() -> bool:
    """Whether objects of this platform can be loaded here."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and sys.maxsize > 2**32


class Loaded:
    """An object in executable memory; it lives as long as this does.

    symbols: addresses of the functions that it calls. Raises Unknown where it needs anything else.
    """

    def __init__(self, image: bytes, symbols: Mapping[str, int]) -> None:
        try:
            parts = _Parts(image)
            self.bytes = parts.size
            self._memory = mmap.mmap(-1, parts.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            # The name goes away again: memory that somebody looks at could not be given back.
            start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
            parts.copy(self._memory)
            for at, word in parts.words(start, symbols):
                _WORD.pack_into(self._memory, at, word % 2**64)
        except (struct.error, IndexError, KeyError, ValueError, OSError) as error:
            raise Unknown(f"not an object that can be loaded: {error}") from None
        if parts.fixed and _mprotect()(start, parts.fixed, mmap.PROT_READ | mmap.PROT_EXEC):
            raise Unknown("the system gives no executable memory")
        self._functions = {name: start + at for name, at in parts.symbols(parts.names) if at is not None}

    def address(self, name: str) -> int:
        """Where a function starts; 0 where there is none of that name."""
        return self._functions.get(name, 0)


@cache
def _mprotect() -> Callable[[int, int, int], int]:
    function = ctypes.CDLL(None).mprotect
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    protect: Callable[[int, int, int], int] = function
    return protect


class _Parts:
    """What an object consists of, and where it comes to lie: first `fixed` bytes that nobody writes, in whole pages."""

    def __init__(self, image: bytes) -> None:
        _, kind, cpu, _, _, _, at, _, _, _, _, size, count, _ = _HEADER.unpack_from(image)
        if (kind, cpu, size) != (_RELOCATABLE, _X86_64, _SECTION.size):
            raise Unknown("not an object for x86-64")
        self._image = image
        self._sections = [_SECTION.unpack_from(image, at + i * size) for i in range(count)]
        self._starts: dict[int, int] = {}
        self.fixed = _up(self._place(0, 0), mmap.PAGESIZE)
        self._table = _up(self._place(self.fixed, _WRITABLE), _WORD.size)
        self._changes = [self._section(s) for s in self._sections if s[1] == _RELOCATIONS and s[7] in self._starts]
        wanted = (table[entry[1] >> 32][0] for _, entries, table in self._changes for entry in entries
                  if entry[1] & _KIND == _GOT64)  # fmt: skip
        self._slots = {name: _WORD.size * i for i, name in enumerate(dict.fromkeys(wanted))}
        self.size = max(_up(self._table + _WORD.size * len(self._slots), mmap.PAGESIZE), mmap.PAGESIZE)
        if self.size > _MOST:
            raise Unknown("too large")
        self.names = next((i for i, s in enumerate(self._sections) if s[1] == _SYMBOLS), 0)

    def copy(self, memory: mmap.mmap) -> None:
        """Puts the sections where they belong."""
        for i, start in self._starts.items():
            _, kind, _, _, at, size, *_ = self._sections[i]
            if kind != _NOTHING:
                if at + size > len(self._image):
                    raise Unknown("cut short")
                memory[start : start + size] = self._image[at : at + size]

    def words(self, start: int, given: Mapping[str, int]) -> Iterator[tuple[int, int]]:
        """(offset, word) of all that depends on where things lie, with the first byte at `start`."""
        for target, entries, table in self._changes:
            first, size = self._starts[target], self._sections[target][5]
            for offset, info, addend in entries:
                (name, at), kind = table[info >> 32], info & _KIND
                here = first + offset
                if offset + _WORD.size > size:
                    raise Unknown("a place outside its section")
                if kind == _GOTPC64 and name == _TABLE:
                    yield here, self._table + addend - here
                elif kind == _GOTOFF64 and at is not None:
                    yield here, at + addend - self._table
                elif kind == _GOT64:
                    slot = self._slots[name]
                    yield here, slot + addend
                    yield self._table + slot, given[name] if at is None else start + at
                else:
                    raise Unknown(f"relocation {kind} of {name!r}")

    def symbols(self, section: int) -> list[tuple[str, int | None]]:
        """Names with their offsets; None for what lies elsewhere."""
        names = self._sections[self._sections[section][6]]
        strings = self._image[names[4] : names[4] + names[5]]
        found: list[tuple[str, int | None]] = []
        for name, _, _, home, value, _ in self._entries(section, _SYMBOL):
            at = None if home not in self._starts else self._starts[home] + value
            found.append((strings[name : strings.index(b"\0", name)].decode(), at))
        return found

    def _place(self, end: int, writable: int) -> int:
        for i, (_, _, flags, _, _, size, _, _, align, _) in enumerate(self._sections):
            if flags & _LOADED and flags & _WRITABLE == writable:
                if flags & _OF_THREADS or align > mmap.PAGESIZE:
                    raise Unknown("a section of a kind that is not known")
                self._starts[i] = _up(end, max(align, 1))
                end = self._starts[i] + size
        return end

    def _section(self, section: tuple[int, ...]) -> _Change:
        return section[7], self._entries(self._sections.index(section), _RELOCATION), self.symbols(section[6])

    def _entries(self, section: int, entry: struct.Struct) -> list[tuple[int, ...]]:
        _, _, _, _, at, size, *_ = self._sections[section]
        return list(entry.iter_unpack(self._image[at : at + size]))


_Change = tuple[int, list[tuple[int, ...]], list[tuple[str, int | None]]]


def _up(size: int, unit: int) -> int:
    return (size + unit - 1) // unit * unit
