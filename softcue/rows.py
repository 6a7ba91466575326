"""Rows: the tensor code that methods share - rows read, set and added to, each example's copy
of its seat's parameters, products by seat.
"""

from functools import lru_cache
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from softcue.batch import Batch, Runs, sent
from softcue.errors import SettingsError
from softcue.protocol import Context, Dims


def unit_of(size: Tensor) -> Tensor:
    """Return what vectors are measured in that are added to rows of this root mean square: (..) -> (..).

    It is 1 for rows of 0.32 to 0.64.

    Rates were found on MiniLM, whose rows are all of that size. A power of two, so that a size measured on
    other texts seldom changes it, and what changes is exact.
    """
    return torch.exp2((size.clamp(min=1e-6) / USUAL_SIZE).log2().round())


def matrix_share(dims: Dims) -> float:
    """Return what part of a preset's rate a matrix has in an encoder of these sizes.

    It falls with the width that the matrix sums over (Yang et al., 2021, "Tensor Programs V"), and with
    layers.
    """
    return min(1.0, MINILM / (dims.layers * dims.hidden))


MINILM = 6 * 384  # layers times width of MiniLM, on which the presets were found


def layers_from(first: int, dims: Dims) -> int:
    """Return how many layers there are from `first` on. Raises SettingsError where there are none."""
    if first >= dims.layers:
        raise SettingsError(f"first_layer is {first}; this encoder has layers 0 to {dims.layers - 1}")
    return dims.layers - first


USUAL_SIZE = 0.45  # of MiniLM's special tokens at the layers' inputs: .34 to .54 on CoLA


def add_rows(hidden: Tensor, row: Tensor, delta: Tensor) -> Tensor:
    """Add delta at the rows; rows of -1 are left alone: (N, D), (B, S), (B, S, D) -> (N, D)."""
    (rows,), (added,) = layered(delta.to(hidden.dtype).unsqueeze(1), row.unsqueeze(1))
    return hidden.index_add(0, rows, added)


def layered(delta: Tensor, row: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return rows, and what index_add adds to them in each layer; nothing for -1.

    (B, L, S, D), (B, L or 1, S) -> (L or 1, B * S) and L times (B * S, D).

    For a cue that adds vectors in many layers: gathered once per forward, for a gather costs more than what
    it is for.
    """
    # A zero added to row 0 instead of a selection: no synchronisation; filled, not multiplied: row 0 is
    # another's, and nan * 0 is nan.
    delta = delta.masked_fill((row < 0).unsqueeze(-1), 0.0)
    return row.clamp(min=0).transpose(0, 1).flatten(1), delta.transpose(0, 1).flatten(1, 2).unbind()


def set_rows(hidden: Tensor, row: Tensor, value: Tensor) -> Tensor:
    """Replace the rows; rows of -1 are left alone: (N, D), (B, R), (B, R, D) -> (N, D)."""
    count = len(hidden)
    # by the row that -1 leads to: which are -1 only the device knows, and nobody waits for it
    longer = F.pad(hidden, (0, 0, 0, 1))
    return longer.index_copy_(0, row.flatten().remainder(count + 1), value.flatten(0, 1).to(hidden.dtype))[
        :count
    ]


def read_rows(hidden: Tensor, row: Tensor) -> Tensor:
    """Read rows, zeros where the row is -1: (N, D), (B, R) -> (B, R, D)."""
    read = hidden.index_select(0, row.clamp(min=0).flatten()).view(*row.shape, -1)
    return read.masked_fill((row < 0).unsqueeze(-1), 0.0)


def of_layer(table: Tensor, layer: int, ctx: Context) -> Tensor:
    """Return one layer of a table: (A, L, ..) -> (A, ..).

    The table is taken apart once, when first asked for: in the backward pass each table[:, layer] would be a
    whole table.
    """
    if ctx.memory is None:
        ctx.memory = table.unbind(1)
    return cast(Tensor, ctx.memory[layer])


def copies(table: Tensor, batch: Batch, dtype: torch.dtype) -> Tensor:
    """Copy the parameters of each example's seat in `dtype`, to be read only: (A, ..) -> (B, ..).

    Gradients are summed in the table's own precision.
    """
    if not torch.is_grad_enabled():
        return table.to(dtype).index_select(0, batch.seat)
    return cast(Tensor, _Copies.apply(table, batch.seat, batch.runs, dtype))


class _Copies(torch.autograd.Function):
    """Copies of table rows whose backward pass is a sum for each seat.

    torch's own would add up whole tables of zeros, example by example.
    """

    @staticmethod
    def forward(ctx, table: Tensor, seat: Tensor, runs: Runs, dtype: torch.dtype) -> Tensor:  # type: ignore[no-untyped-def, override]
        ctx.runs, ctx.like = runs, (table.shape, table.dtype)
        low = table.to(dtype)
        return (
            low[runs[0][0]].expand(len(seat), *low.shape[1:]) if len(runs) == 1 else low.index_select(0, seat)
        )

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def, override]
        shape, dtype = ctx.like
        total = torch.zeros(shape, dtype=dtype, device=grad.device)
        for seat, first, end in ctx.runs:
            total[seat] += grad[first:end].sum(0, dtype=dtype)
        return total, None, None, None


def per_seat(x: Tensor, weight: Tensor, runs: Runs) -> Tensor:
    """Multiply each run by its seat's weight: (M, .., I), (A, I, O) -> (M, .., O).

    A run (seat, a, b) is x[a:b] through weight[seat], one product per adapter present.
    """
    if len(runs) > FEW_RUNS and (weight[0].numel() <= THIN if x.dim() == 2 else _even(runs)):
        return _padded(x, weight, runs)
    products = [x[a:b] @ weight[seat].to(x.dtype) for seat, a, b in runs]
    return products[0] if len(products) == 1 else torch.cat(products)


FEW_RUNS = 2  # runs that are quicker one by one
# elements of a matrix so small that starting its product costs more than the product: LoRA's, APT's gate
THIN = 2**14


def _even(runs: Runs) -> bool:
    """Say whether padding every run to the longest adds little."""
    longest = max(end - first for _, first, end in runs)
    return longest * len(runs) <= 1.25 * sum(end - first for _, first, end in runs)


def _padded(x: Tensor, weight: Tensor, runs: Runs) -> Tensor:
    """Compute the same as one batched product, every run padded to the longest."""
    row, place, seat = _places(runs, x.device)
    as_they_are = row.numel() == len(x)  # all runs of one length: nothing is padded
    # (G, T * .., I)
    inside = (x if as_they_are else x.index_select(0, row.flatten())).reshape(len(runs), -1, x.shape[-1])
    own = weight[seat] if isinstance(seat, slice) else weight.index_select(0, seat)
    products = inside @ own.to(x.dtype)
    products = products.view(row.numel(), *x.shape[1:-1], -1)
    return products if as_they_are else products.index_select(0, place)


@lru_cache(maxsize=8)  # a forward asks for the same few runs at every site of every layer
def _places(runs: Runs, device: torch.device) -> tuple[Tensor, Tensor, Tensor | slice]:
    """Return the rows of each run, where each row stands, and the runs' seats.

    (G, T) rows, a run's last again where it is shorter; (M,); (G,), a slice if they follow one another.
    """
    with torch.inference_mode(False):  # what is kept may be wanted by a training step later
        seat, first, end = (torch.tensor(column) for column in zip(*runs, strict=True))
        column = torch.arange(int((end - first).max()))
        row = torch.minimum(first[:, None] + column, end[:, None] - 1)
        place = (first[:, None] + column < end[:, None]).flatten().nonzero()[:, 0]
        follow = slice(runs[0][0], runs[0][0] + len(runs))
        one_by_one = seat.tolist() == list(range(follow.start, follow.stop))
        return sent(row, device), sent(place, device), follow if one_by_one else sent(seat, device)
