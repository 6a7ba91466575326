"""Kernels: what is quicker in C++ than as operators of torch, built when softcue is installed
where there is a compiler for it.

Without them everything works as before. They are reached by addresses (ctypes), hold no state, and release
Python's lock.
"""

import ctypes
import warnings
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

# what torch calls a processor -> the build for it, see pyproject.toml
BUILDS = {"AVX512": "x86_64_v4", "AVX2": "x86_64_v3"}
DTYPE_CODES = {torch.float32: 0, torch.bfloat16: 1}  # what the kernels call the types that they take
MIXED = 2  # bfloat16 rows beside what is in float32

_pointer, _long, _int, _float, _seed = (
    ctypes.c_void_p,
    ctypes.c_long,
    ctypes.c_int32,
    ctypes.c_float,
    ctypes.c_uint64,
)


class Attention(ctypes.Structure):
    """Attention in attention.cpp, which says what each is."""

    _fields_ = [
        *((name, _long) for name in ("examples", "heads", "width", "prefix")),
        *((name, _pointer) for name in ("query_start", "key_start")),
        *((name, _long) for name in ("query_row", "key_row")),
        *((name, _pointer) for name in ("query", "key", "value")),
        *(
            (name, _long)
            for name in ("front_key_example", "front_key_token", "front_value_example", "front_value_token")
        ),
        *((name, _pointer) for name in ("front_key", "front_value", "front_count", "ahead", "distance")),
        ("distance_head", _long),
        *((name, _float) for name in ("scale", "rate")),
        ("seed", _seed),
        ("threads", _int),
        *((name, _pointer) for name in ("mixed", "total", "grad", "to_query", "to_key", "to_value")),
        *((name, _pointer) for name in ("to_front_key", "to_front_value", "to_ahead")),
    ]


class Norm(ctypes.Structure):
    """Norm in norm.cpp, which says what each is."""

    _fields_ = [
        *((name, _long) for name in ("rows", "width")),
        *((name, _pointer) for name in ("x", "residual", "weight", "bias")),
        *((name, _float) for name in ("epsilon", "rate")),
        ("seed", _seed),
        ("threads", _int),
        *(
            (name, _pointer)
            for name in (
                "total",
                "normed",
                "mean",
                "scale",
                "grad",
                "to_x",
                "to_total",
                "to_weight",
                "to_bias",
            )
        ),
    ]


class Gelu(ctypes.Structure):
    """Gelu in gelu.cpp, which says what each is."""

    _fields_ = [("count", _long), *((name, _pointer) for name in ("x", "y", "slope")), ("threads", _int)]


class Matmul(ctypes.Structure):
    """Matmul in matmul.cpp, which says what each is."""

    _fields_ = [
        *((name, _long) for name in ("rows", "depth", "columns")),
        ("x", _pointer),
        ("x_row", _long),
        ("weight", _pointer),
        *((name, _long) for name in ("weight_row", "back", "laid")),
        *((name, _pointer) for name in ("bias", "beside")),
        ("beside_row", _long),
        ("factor", _pointer),
        ("active", _long),
        *((name, _pointer) for name in ("slope", "y")),
        ("threads", _int),
    ]


class Thin(ctypes.Structure):
    """Thin in thin.cpp, which says what each is."""

    _fields_ = [
        *((name, _long) for name in ("blocks", "runs", "inputs", "outputs", "rank")),
        *((name, _pointer) for name in ("block", "run", "x", "y", "made")),
        *((name, _long) for name in ("x_row", "y_row", "made_row")),
        *((name, _pointer) for name in ("shrink", "grow")),
        *((name, _long) for name in ("shrink_seat", "grow_seat")),
        *((name, _pointer) for name in ("scale", "thin", "grad")),
        ("grad_row", _long),
        *((name, _pointer) for name in ("to_thin", "to_x", "to_shrink", "to_grow")),
        ("threads", _int),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """Load the build for this processor; None where there is none, or, with a warning, none that loads.

    It calls the OpenMP that torch has loaded for the whole process, and brings none of its own.
    """
    build = BUILDS.get(torch.backends.cpu.get_cpu_capability())
    path = Path(__file__).with_name(f"{build}.so")
    if not path.is_file():
        return None
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        warnings.warn(
            f"softcue's kernels do not load ({error}); everything works without them, slower", stacklevel=2
        )
        return None


def has_kernels(x: Tensor) -> bool:
    """Say whether there are kernels for values of this type.

    (..) -> bool.
    """
    return x.device.type == "cpu" and x.dtype in DTYPE_CODES and library() is not None


def kind_of(rows: torch.dtype, others: torch.dtype) -> int | None:
    """Return the kernels' number for two dtypes, or None where no kernel takes both."""
    if rows == others:
        return DTYPE_CODES.get(rows)
    return MIXED if (rows, others) == (torch.bfloat16, torch.float32) else None


def call(name: str, told: ctypes.Structure, rows: torch.dtype, others: torch.dtype | None = None) -> None:
    """Run one of them on values of these types; MemoryError where there is no room for what it needs."""
    told.threads = torch.get_num_threads()  # type: ignore[attr-defined]
    if getattr(library(), name)(ctypes.byref(told), kind_of(rows, others or rows)):
        raise MemoryError(f"{name}: no memory is left")


def address(x: Tensor | None) -> int | None:
    """Return the address of a tensor's values; None: a null pointer."""
    return None if x is None else x.data_ptr()


def dense(x: Tensor) -> Tensor:
    """Return the same with its last two axes side by side.

    In the other axes values may be apart or shared.
    (..) -> (..).
    """
    return x if x.stride(-1) == 1 and x.stride(-2) == x.shape[-1] else x.contiguous()


def new_seed() -> int:
    """Draw the seed of one draw of dropout from torch's own generator."""
    return int(torch.empty((), dtype=torch.long).random_())
