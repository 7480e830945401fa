"""Read an optimised HLO program: what is launched, how many bytes that moves, collectives.

The text lists every computation in the order in which it is scheduled, one instruction a
line. A launch is an instruction that the device runs by itself; what is inside a fusion is
part of one launch.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

# What costs nothing at run time, or is counted by what it calls.
_FREE = frozenset(
    [
        "parameter",
        "constant",
        "bitcast",
        "tuple",
        "get-tuple-element",
        "after-all",
        "partition-id",
        "replica-id",
        "copy-done",
        "all-reduce-done",
        "all-gather-done",
        "collective-permute-done",
        "async-done",
        "async-update",
        "opt-barrier",
        "while",
        "call",
        "conditional",
    ]
)
_COLLECTIVES = frozenset(
    [
        "all-reduce",
        "all-gather",
        "all-to-all",
        "reduce-scatter",
        "collective-permute",
        "collective-broadcast",
        "ragged-all-to-all",
        "send",
        "recv",
    ]
)
_BITS = {"pred": 8, "token": 0, "bf16": 16, "c64": 64, "c128": 128}


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    argument: str

    @property
    def nbytes(self) -> int:
        """How many bytes the result has, without padding."""
        return size_of(self.shape)

    def called(self) -> list[str]:
        """Name the computations that it runs."""
        one = re.findall(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)", self.attributes)
        branches = re.search(r"branch_computations=\{([^}]*)\}", self.attributes)
        return one + (re.findall(r"[\w.\-]+", branches[1]) if branches else [])


@dataclass
class Program:
    """All computations of a module, and which of them is run."""

    computations: dict[str, dict[str, Instruction]] = field(default_factory=dict)
    entry: str = ""

    def scheduled(self, computation: str = "", times: int = 1) -> Iterator[tuple[Instruction, int]]:
        """Yield what is launched and how often, through loops, calls and branches."""
        for i in self.computations[computation or self.entry].values():
            if i.opcode in ("while", "call", "conditional", "async-start"):
                for name in i.called():
                    yield from self.scheduled(name, times * self.trips(i))
            elif i.opcode not in _FREE:
                yield i, times

    def launches(self) -> int:
        """Count how often something is launched."""
        return sum(times for _, times in self.scheduled())

    def bytes_moved(self) -> int:
        """Add up what launches read and write; what is gathered counts once for every read."""
        return sum(times * self._moved(i) for i, times in self.scheduled())

    def collectives(self) -> Counter[str]:
        """Count the operations in which devices talk to each other."""
        found = (
            i.opcode.removesuffix("-start")
            for body in self.computations.values()
            for i in body.values()
        )
        return Counter(name for name in found if name in _COLLECTIVES)

    def trips(self, i: Instruction) -> int:
        """Return how often a loop runs; 1 for what is no loop, or where that is not known."""
        if i.opcode != "while":
            return 1
        if known := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', i.attributes):
            return int(known[1])
        condition = re.search(r"condition=%?([\w.\-]+)", i.attributes)
        tests = self.computations[condition[1]].values() if condition else ()
        limits = [int(t.argument) for t in tests if t.opcode == "constant" and "s32" in t.shape]
        return limits[0] if len(limits) == 1 else 1

    def contents(self, i: Instruction) -> set[str]:
        """Return the operations of a launch: its own, and those that are fused into it."""
        names = i.called() if i.opcode == "fusion" else []
        inner = [self.contents(j) for n in names for j in self.computations[n].values()]
        return {i.opcode}.union(*inner)

    def integer_operands(self, i: Instruction) -> list[str]:
        """Return the shapes of a launch's operands that are integers."""
        shapes = (self._shape_of(name, i) for name in i.operands)
        return [shape for shape in shapes if shape.startswith(("s32[", "u32["))]

    def _moved(self, i: Instruction) -> int:
        if i.opcode != "fusion":
            sources = [self._shape_of(name, i) for name in i.operands]
            return i.nbytes + sum(map(size_of, sources))
        body = self.computations[i.called()[0]]
        parameters = [p for p in body.values() if p.opcode == "parameter"]
        return _written(body, i) + sum(_read(p, body) for p in parameters)

    def _shape_of(self, name: str, user: Instruction) -> str:
        body = next(b for b in self.computations.values() if b.get(user.name) is user)
        return body[name].shape


def _written(body: dict[str, Instruction], fusion: Instruction) -> int:
    """A scatter or an update into an operand writes, and reads, only what it changes."""
    changed = [_changed(i, body) for i in body.values() if i.opcode in _UPDATES]
    return 2 * sum(changed) if changed else fusion.nbytes


_UPDATES = {"scatter": 2, "dynamic-update-slice": 1}


def _changed(i: Instruction, body: dict[str, Instruction]) -> int:
    return body[i.operands[_UPDATES[i.opcode]]].nbytes


def _read(parameter: Instruction, body: dict[str, Instruction]) -> int:
    """Count what a fusion reads of a parameter: all of it, or what is gathered from it."""
    users = _users(parameter.name, body)
    if users and all(i.opcode in ("gather", "dynamic-slice") and first for i, first in users):
        return sum(i.nbytes for i, _ in users)
    if users and all(i.opcode in _UPDATES and first for i, first in users):
        return 0
    return parameter.nbytes


def _users(name: str, body: dict[str, Instruction]) -> list[tuple[Instruction, bool]]:
    """List who uses a value, through bitcasts, and whether as the first operand."""
    found: list[tuple[Instruction, bool]] = []
    for i in body.values():
        if name in i.operands:
            if i.opcode in ("bitcast", "reshape"):
                found += _users(i.name, body)
            else:
                found.append((i, i.operands[0] == name and name not in i.operands[1:]))
    return found


# Parsing ----------------------------------------------------------------------

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")


def parse(text: str) -> Program:
    """Read a module's text."""
    program = Program()
    body: dict[str, Instruction] = {}
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        if head := _HEAD.match(line):
            body = program.computations.setdefault(head[2], {})
            program.entry = head[2] if head[1] else program.entry
        elif found := _LINE.match(line):
            body[found[1]] = _instruction(found[1], found[2])
    return program


def _instruction(name: str, rest: str) -> Instruction:
    shape, rest = _split_shape(rest)
    opcode, _, rest = rest.partition("(")
    end = _closing(rest)
    inside = rest[:end]
    operands = tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(name, shape, opcode.strip(), operands, rest[end + 1 :], inside)


def _split_shape(rest: str) -> tuple[str, str]:
    if rest.startswith("("):
        end = _closing(rest[1:]) + 2
        return rest[:end], rest[end:]
    shape, _, rest = rest.partition(" ")
    return shape, rest


def _closing(text: str) -> int:
    """Return where the bracket ends that was open before ``text``."""
    depth = 1
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return at
    return len(text)


def elements_of(shape: str) -> int:
    """Return how many numbers an array of a shape has."""
    sizes = re.search(r"\[([\d,]*)\]", shape)
    return math.prod(int(n) for n in sizes[1].split(",") if n) if sizes else 0


def size_of(shape: str) -> int:
    """Return the bytes of a shape, of all its parts if it is a tuple."""
    return sum(
        math.prod(int(n) for n in sizes.split(",") if n) * _bits(dtype) // 8
        for dtype, sizes in re.findall(r"\b([a-z]+\d*\w*)\[([\d,]*)\]", shape)
    )


def _bits(dtype: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    digits = re.match(r"[a-z]+(\d+)", dtype)
    return int(digits[1]) if digits else 0
