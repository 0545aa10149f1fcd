"""Pickles of dictionaries of arrays, read without Python's own machine.

A pickle is a program, and Python's own reader runs it: it imports what is named and calls what was imported. So the
file is never handed to it. `pickletools` cuts it into instructions, and a small machine below knows the few that a
dictionary of numpy arrays is made of. What stands for numpy's functions is a member of an enumeration that can
neither be called nor changed; an array is a view of bytes of the file, of a numeric type from a fixed list, whose
size must be that of its bytes. Anything else is refused by name.

Source: Python's `pickletools` for the instructions, numpy's `__reduce__` of arrays, dtypes and scalars.
"""

import enum
import math
import mmap
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray


class _Known(enum.Enum):
    """What a pickle of arrays may name; the machine knows what each does."""

    ARRAY = "numpy.ndarray"
    DTYPE = "numpy.dtype"
    RECONSTRUCT = "multiarray._reconstruct"
    SCALAR = "multiarray.scalar"
    FROM_BUFFER = "numeric._frombuffer"
    ENCODE = "_codecs.encode"


# numpy moved its core in version 2.
_NAMES = {
    "numpy ndarray": _Known.ARRAY,
    "numpy dtype": _Known.DTYPE,
    "_codecs encode": _Known.ENCODE,
    **{f"numpy.{core}.multiarray _reconstruct": _Known.RECONSTRUCT for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray scalar": _Known.SCALAR for core in ("core", "_core")},
    **{f"numpy.{core}.numeric _frombuffer": _Known.FROM_BUFFER for core in ("core", "_core")},
}
_BYTE_ORDERS = ("<", ">", "|", "=")
_CODES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
_TYPES = {order + code: code for order in ("", *_BYTE_ORDERS) for code in _CODES}
_MAX_DIMENSIONS = 64
_MAX_BITS = 63

_NUMBERS = frozenset({"BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"})
_STRINGS = frozenset({"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})
_BYTES = frozenset({"SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"})
_VALUES = _NUMBERS | _STRINGS | _BYTES
_PYTHON_2_STRINGS = frozenset({"STRING", "BINSTRING", "SHORT_BINSTRING"})
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_IN_WORDS = {
    "PERSID": "a reference to something outside of the file",
    "BINPERSID": "a reference to something outside of the file",
    "EMPTY_LIST": "a list",
    "LIST": "a list",
    "EMPTY_SET": "a set",
    "NEXT_BUFFER": "a buffer that is not in the file",
}


Numbers = NDArray[Any]


class RefusedError(Exception):
    """What a pickle holds that is not read, in words."""


@dataclass
class _Dtype:
    """A numeric type on its way: code without byte order, then with it."""

    code: str
    order: str = "="

    def resolve(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


@dataclass
class PickledArray:
    """An array on its way: empty until its state is set; (n,) numbers, and the shape they are to have."""

    shape: tuple[int, ...] = ()
    numbers: Numbers | None = None


def run_pickle(content: mmap.mmap) -> object:
    """Read the one object of a pickle: dictionaries, tuples, text, numbers, and `PickledArray` for arrays.

    Raises:
        RefusedError: it is made of anything else.
        ValueError: it is cut off, or no pickle.
    """
    machine = _Machine(_used_memos(content), len(content))
    for name, argument in _instructions(content):
        machine.step(name, argument)
    return machine.pop()


def _instructions(content: mmap.mmap) -> Iterator[tuple[str, Any]]:
    content.seek(0)
    for opcode, argument, _ in pickletools.genops(cast("Any", content)):
        yield opcode.name, argument


def _used_memos(content: mmap.mmap) -> frozenset[int]:
    """Return the memo numbers that are read: what else is put there need not be kept."""
    return frozenset(argument for name, argument in _instructions(content) if name in _GETS)


class _Machine:
    """A stack and a memo: the part of Python's pickle machine that makes dictionaries of arrays."""

    def __init__(self, used_memos: frozenset[int], num_bytes: int) -> None:
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}
        self._num_memos = 0
        self._used_memos = used_memos
        self._bytes_left = num_bytes

    def step(self, name: str, argument: Any) -> None:
        """Carry out one instruction.

        Raises:
            RefusedError: it is none that a dictionary of arrays needs.
        """
        if name in _VALUES:
            self._stack.append(argument)
        elif name in _PYTHON_2_STRINGS:
            self._stack.append(argument.encode("latin-1"))
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _PUTS or name == "MEMOIZE":
            self._put(self._num_memos if argument is None else argument)
        elif name in _GETS:
            if argument not in self._memo:
                raise RefusedError("a reference to nothing")
            self._stack.append(self._memo[argument])
        elif name in _TUPLES:
            self._stack.append(tuple(self._pop_many(_TUPLES[name])))
        elif name not in ("PROTO", "FRAME", "STOP"):
            self._build(name, argument)

    def _build(self, name: str, argument: Any) -> None:
        match name:
            case "MARK":
                self._marks.append(len(self._stack))
            case "TUPLE":
                self._stack.append(tuple(self._pop_marked()))
            case "EMPTY_DICT":
                self._stack.append({})
            case "DICT":
                items = self._pop_marked()
                self._stack.append({})
                self._set_items(items)
            case "SETITEM":
                self._set_items(self._pop_many(2))
            case "SETITEMS":
                self._set_items(self._pop_marked())
            case "GLOBAL":
                self._stack.append(_find(argument))
            case "STACK_GLOBAL":
                module, attribute = self._pop_many(2)
                self._stack.append(_find(f"{_text(module)} {_text(attribute)}"))
            case "REDUCE":
                function, arguments = self._pop_many(2)
                made = _call(function, arguments)
                self._charge(made)
                self._stack.append(made)
            case "BUILD":
                target, state = self._pop_many(2)
                _set_state(target, state)
                self._stack.append(target)
            case _:
                raise RefusedError(_IN_WORDS.get(name, f"something else (instruction {name})"))

    def pop(self) -> object:
        """Take the top of the stack."""
        return self._pop_many(1)[0]

    def _pop_many(self, count: int) -> list[object]:
        bottom = self._marks[-1] if self._marks else 0
        if len(self._stack) - bottom < count:
            raise RefusedError("an instruction without its operands")
        taken = self._stack[-count:]
        del self._stack[-count:]
        return taken

    def _pop_marked(self) -> list[object]:
        if not self._marks:
            raise RefusedError("an instruction without its operands")
        start = self._marks.pop()
        taken = self._stack[start:]
        del self._stack[start:]
        return taken

    def _put(self, number: int) -> None:
        self._num_memos += 1
        if number in self._used_memos:
            [self._memo[number]] = self._pop_many(1)
            self._stack.append(self._memo[number])

    def _charge(self, made: object) -> None:
        """Refuse text that is turned to bytes again and again: a small file would fill the memory."""
        self._bytes_left -= len(made) if isinstance(made, bytes) else 0
        if self._bytes_left < 0:
            raise RefusedError("the same text turned to bytes more than once")

    def _set_items(self, items: list[object]) -> None:
        [target] = self._pop_many(1)
        if not isinstance(target, dict) or len(items) % 2:
            raise RefusedError("items of what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Checked here, since hashing what is nested deeply enough ends the process.
            if isinstance(key, bool) or not isinstance(key, int | str | bytes):
                raise RefusedError(f"a key that is neither text nor a whole number ({name_type(key)})")
            if isinstance(key, int) and key.bit_length() > _MAX_BITS:
                raise RefusedError("a key that is a number of more than 64 bits")
            target[key] = value
        self._stack.append(target)


def _find(name: str) -> _Known:
    if name not in _NAMES:
        raise RefusedError(f"the name {'.'.join(name.split(' ', 1))[:100]!r}, and nothing is imported")
    return _NAMES[name]


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if not isinstance(value, str):
        raise RefusedError(f"{name_type(value)} where text belongs")
    return value


def _call(function: object, arguments: object) -> object:
    """Do what numpy's function would, for the arguments that pickles of numbers have."""
    match function, arguments:
        case _Known.RECONSTRUCT, (_Known.ARRAY, (0,), _):
            return PickledArray()
        case _Known.DTYPE, (code, *_):
            if _text(code) not in _TYPES:
                raise RefusedError(f"an array of type {_text(code)[:20]!r}")
            return _Dtype(_TYPES[_text(code)])
        case _Known.ENCODE, (str() as text, "latin1" | b"latin1"):
            return text.encode("latin-1")
        case _Known.SCALAR, (_Dtype() as dtype, content):
            return _view(dtype, (1,), content)[0].item()
        case _Known.FROM_BUFFER, (content, _Dtype() as dtype, shape, *_):
            return PickledArray(_shape(shape), _view(dtype, _shape(shape), content))
        case _:
            name = function.value if isinstance(function, _Known) else name_type(function)
            raise RefusedError(f"a call of {name} with arguments that no array has")


def _set_state(target: object, state: object) -> None:
    match target, state:
        case _Dtype(), (_, order, None, None, None, *_) if _text(order) in _BYTE_ORDERS:
            target.order = _text(order)
        case PickledArray(numbers=None), (_, shape, _Dtype() as dtype, _, content):
            target.shape = _shape(shape)
            target.numbers = _view(dtype, target.shape, content)
        case _:
            name = target.value if isinstance(target, _Known) else name_type(target)
            raise RefusedError(f"a state of {name} that no array of numbers has")


def _shape(shape: object) -> tuple[int, ...]:
    sizes = cast("tuple[object, ...]", shape) if isinstance(shape, tuple) else (shape,)
    whole = (isinstance(size, int) and size >= 0 and size.bit_length() <= _MAX_BITS for size in sizes)
    if len(sizes) > _MAX_DIMENSIONS or not all(whole):
        raise RefusedError("an array without a shape")
    return cast("tuple[int, ...]", sizes)


def _view(dtype: _Dtype, shape: tuple[int, ...], content: object) -> Numbers:
    """Return (n,) numbers that lie in the file; a size that the bytes do not have is refused."""
    kind = dtype.resolve()
    claimed = math.prod(shape) * kind.itemsize
    if not isinstance(content, bytes | bytearray) or len(content) != claimed:
        held = f"{len(content)} bytes" if isinstance(content, bytes | bytearray) else name_type(content)
        raise RefusedError(f"an array of shape {shape[:4]} that needs {claimed} bytes and has {held}")
    return np.frombuffer(content, kind)


def name_type(value: object) -> str:
    if isinstance(value, PickledArray):
        return "an array"
    return f"a {type(value).__name__.lstrip('_').lower()}"
