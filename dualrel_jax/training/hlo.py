"""Reads the text of a compiled program: its operations, their place in our code, and what devices exchange."""

import math
import re
from dataclasses import dataclass, field

_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%(?P<name>\S+) = (?P<shape>\(.*?\)|\S+) (?P<opcode>[a-z][\w-]*)\((?P<rest>.*)")
_COMPUTATION = re.compile(r"(?:ENTRY )?%(\S+) \(")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+))\w*\[([\d,]*)\]")
_TRANSFORMATION = re.compile(r"(\w+)\((.*)\)")
_CONTROL_FLOW = {"while", "body", "cond", "closed_call", "checkpoint", "rematted_computation"}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


@dataclass
class Operation:
    """One instruction.

    Attributes:
      opcode: such as fusion, while or all-reduce.
      shape: of the result, as the text has it.
      operands: names of the operations it reads.
      path: named scopes and Flax modules it was written in, outermost first; empty where nothing says so.
      backward: whether it belongs to a gradient.
    """

    opcode: str
    shape: str
    operands: list[str]
    path: tuple[str, ...] = ()
    backward: bool = False


@dataclass
class Program:
    """A module's name and its operations by name, in the order of the text."""

    name: str
    operations: dict[str, Operation] = field(default_factory=dict)


def parse(text: str) -> Program:
    """The program of `compiled.as_text()`.

    The compiler leaves some operations without a path, such as copies into another layout: they get that of what is
    fused inside them, or else of the first operation that reads them.
    """
    program = Program(re.match(r"HloModule ([^\s,]+)", text)[1])
    fused, computation = {}, ""
    for line in text.splitlines():
        if found := _COMPUTATION.match(line):
            computation = found[1]
        elif found := _INSTRUCTION.match(line):
            rest = found["rest"]
            op_name, calls = re.search(r'op_name="([^"]*)"', rest), re.search(r"calls=%([^\s,]+)", rest)
            path, backward = parse_path(op_name[1] if op_name else "")
            if path:
                fused[computation] = path, backward
            elif calls:
                path, backward = fused.get(calls[1], ((), False))
            operands = re.findall(r"%([^\s,)]+)", rest.partition("), ")[0])
            program.operations[found["name"]] = Operation(found["opcode"], found["shape"], operands, path, backward)

    readers: dict[str, Operation] = {}
    for name, operation in reversed(program.operations.items()):
        if not operation.path and name in readers:
            operation.path, operation.backward = readers[name].path, readers[name].backward
        if operation.path:
            readers.update(dict.fromkeys(operation.operands, operation))
    return program


def parse_path(op_name: str) -> tuple[tuple[str, ...], bool]:
    """(path, backward) of JAX's name of an operation.

    >>> parse_path("jit(train_step)/transpose(jvp(student))/UNet/encoder/ConvBlock_0/jit(relu)/max")
    (('student', 'UNet', 'encoder', 'ConvBlock_0'), True)
    """
    first = re.split("[;:]", op_name)[0]  # an operation made of several has the place of its first
    path, backward = [], False
    for element in first.replace("/(", "/").split("/")[:-1]:
        while found := _TRANSFORMATION.fullmatch(element):
            backward |= found[1] == "transpose"
            element = "" if found[1] == "jit" else found[2]
        if element and element not in _CONTROL_FLOW:
            path.append(element)
    return tuple(path), backward


def size_bytes(shape: str) -> int:
    """Of an array or a tuple of arrays, without padding: 24 for `(f32[2,2]{1,0}, bf16[4])`."""
    bits = 0
    for dtype, width, sizes in _ARRAY.findall(shape):
        bits += (8 if dtype == "pred" else int(width)) * math.prod(map(int, filter(None, sizes.split(","))))
    return bits // 8


def communication(text: str) -> list[tuple[str, int, tuple[str, ...]]]:
    """What devices exchange in a program: (kind, one of COLLECTIVES; bytes a device puts in; path) each, in order."""
    program = parse(text)
    found = []
    for operation in program.operations.values():
        kind = operation.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            put_in = sum(size_bytes(program.operations[name].shape) for name in operation.operands)
            found.append((kind, put_in, operation.path))
    return found
