"""Seats: copies a seat's parameters into an adapter's tensors, and an adapter's into a seat."""

from collections.abc import Mapping

import torch
from torch import Tensor

from softcue.adapter.store import Adapter
from softcue.errors import AdapterError
from softcue.heads import Head
from softcue.protocol import Cue


def lift(cue: Cue, cue_seat: int, head: Head, head_seat: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return copies of one seat's parameters of a cue and of a head, in float32 on the CPU.

    Of the head they are the rows of the seat's own classes.
    """
    classes = int(head.classes[head_seat])
    of_cue = {name: _copy(tensor[cue_seat]) for name, tensor in cue.state_dict().items()}
    of_head = {name: _copy(tensor[head_seat, :classes]) for name, tensor in head.state_dict().items()}
    return of_cue, of_head


@torch.no_grad()
def seat_in(cue: Cue, cue_seat: int, head: Head, head_seat: int, adapter: Adapter) -> None:
    """Copy an adapter's parameters and per-seat settings into a seat of a cue and of a head.

    Other seats do not change. If the head has more classes than the adapter, the adapter's rows come first,
    and the others stay masked. Raises AdapterError, with both seats untouched, if the method, kind, pooling
    or shapes differ.
    """
    came = (adapter.method, adapter.kind, adapter.pooling)
    expected = (cue.method, head.kind, head.pooling)
    if came != expected:
        raise AdapterError(
            f"the adapter is for {' / '.join(came)}; these seats are for {' / '.join(expected)}"
        )
    cue_seats = {name: tensor[cue_seat] for name, tensor in cue.state_dict().items()}
    classes = len(adapter.head["bias"])
    if classes > head.bias.shape[1]:
        raise AdapterError(f"the adapter has {classes} classes; the head has room for {head.bias.shape[1]}")
    head_seats = {name: tensor[head_seat, :classes] for name, tensor in head.state_dict().items()}
    _fits("cue", adapter.cue, cue_seats)
    _fits("head", adapter.head, head_seats)
    cue.configure(cue_seat, adapter.config)
    head.classes[head_seat] = classes
    for seats, tensors in ((cue_seats, adapter.cue), (head_seats, adapter.head)):
        for name, tensor in seats.items():
            tensor.copy_(tensors[name])


def _fits(part: str, came: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    shapes = {name: list(tensor.shape) for name, tensor in came.items()}
    seats = {name: list(tensor.shape) for name, tensor in expected.items()}
    if shapes != seats:
        raise AdapterError(
            f"the adapter's {part} has {shapes}; the seat has {seats}: seat it with a {part} of its own "
            "settings"
        )


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
