"""How the judge is compiled: float64, every operation rounded by itself, the same bits on every machine.

numba compiles on the first call, which takes seconds, and keeps what it made: in __pycache__ beside the sources, or
where NUMBA_CACHE_DIR says. A folder that cannot be written to is read all the same (an image keeps the code there), and
where nothing is kept, compiling is repeated at each start. What is kept is for every processor of its kind, of x86 for
those since 2009 (x86-64-v2), so that it serves every machine. No operation is contracted or reordered: fast-math is
off, and a fused multiply-add would need it. Nothing is allocated in compiled code, so arrays are not counted either
(_nrt): that took most of the time.
"""

import hashlib
import platform
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.caching import InTreeCacheLocator, UserProvidedCacheLocator
from numba.extending import intrinsic, overload

from models.data.arrays import Doubles, Floats

CACHE_LINE = 64  # bytes
OPTIONS = {"error_model": "numpy", "fastmath": False, "_nrt": False}
# Read when the first function is compiled or loaded.
config.CPU_NAME, config.CPU_FEATURES = "x86-64-v2" if platform.machine() in ("x86_64", "AMD64") else "generic", ""

F = TypeVar("F", bound=Callable[..., Any])


@cache
def _digest(package: Path) -> str:
    """Of every source of a package: a function is compiled with those of it that it calls, wherever they stand."""
    digest = hashlib.sha256()
    for path in sorted(package.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class KeptCode(InTreeCacheLocator):  # type: ignore[misc]  # numba has no types
    """Where compiled code is kept, and for which sources."""

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> Self:
        return cls(function, file)

    def get_cache_path(self) -> str:
        if config.CACHE_DIR:
            return str(Path(config.CACHE_DIR) / UserProvidedCacheLocator.get_suitable_cache_subpath(self._py_file))
        return str(super().get_cache_path())

    def get_source_stamp(self) -> str:
        return _digest(Path(self._py_file).parent)


def compiled(function: F) -> F:
    """A function that others which are compiled call, and Python does not.

    It is inlined: a call would pass every field of every array in its tuples, which took as long as the arithmetic.
    """
    bare = numba.njit(**OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)
    return cast(F, bare(function))


def kept(function: F) -> F:
    """A function that Python calls: it is compiled when it is first called, and kept for the next start."""
    before, config.CACHE_LOCATOR_CLASSES = config.CACHE_LOCATOR_CLASSES, f"{__name__}.{KeptCode.__name__}"
    try:
        dispatcher = numba.njit(**OPTIONS, cache=True)(function)
    finally:
        config.CACHE_LOCATOR_CLASSES = before
    code = dispatcher._cache  # noqa: SLF001  (numba has no other way to go on where nothing can be written)
    code.save_overload = _where_it_can_be_written(code.save_overload)
    return cast(F, dispatcher)


def _where_it_can_be_written(save: Callable[..., None]) -> Callable[..., None]:
    def save_or_not(*arguments: Any) -> None:
        with suppress(OSError):
            save(*arguments)

    return save_or_not


def is_kept(function: Any) -> bool:
    """Whether code of a function decorated so was kept, of these sources: else its first call takes seconds."""
    return bool(function._cache._cache_file._load_index())  # noqa: SLF001  (as above)


def fetch_ahead(rows: Doubles | Floats, slot: int, size: int) -> None:
    """Let the processor bring a row into its cache while it computes something else. Changes nothing.

    Rows of many streams lie far apart: without that, each one's first use waits for memory.
    rows: (R, ...), contiguous. size: bytes of it, from its beginning.
    """


@overload(fetch_ahead, jit_options=OPTIONS)  # type: ignore[untyped-decorator]  # numba has no types
def _fetch_ahead(rows: Any, slot: Any, size: Any) -> Callable[..., None]:  # noqa: ARG001  (their types alone)
    def fetch(rows: Any, slot: Any, size: Any) -> None:
        begin = rows.ctypes.data + slot * rows.strides[0]
        for at in range(0, size, CACHE_LINE):
            _prefetch(begin + at)
        _prefetch(begin + size - 1)

    return fetch


@intrinsic  # type: ignore[untyped-decorator]  # as above
def _prefetch(_: Any, address: Any) -> tuple[Any, Any]:  # noqa: ARG001
    """The processor's instruction that fetches a cache line; of an address that is nowhere, nothing."""

    def generate(__: Any, builder: Any, ___: Any, arguments: Any) -> Any:
        pointer, number = cgutils.voidptr_t, ir.IntType(32)
        of_llvm = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], of_llvm)
        to_read, near, data = ir.Constant(number, 0), ir.Constant(number, 3), ir.Constant(number, 1)
        builder.call(function, [builder.inttoptr(arguments[0], pointer), to_read, near, data])

    return types.void(types.intp), generate
