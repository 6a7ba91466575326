"""The processes that torchrun has started: they share the batch of each step, and rank 0
decides and speaks for all.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from softcue.errors import RequestError, SoftcueError

# torchrun's own; other launchers set RANK and WORLD_SIZE too, and mean something else by them
LAUNCHED = "TORCHELASTIC_RUN_ID"
# seconds in which rank 0 tells of a mistake that all ranks made, before another tells of its own
GRACE = 10.0
Value = TypeVar("Value")


class Ranks:
    """One process among those that train one model together; a process by itself communicates with nobody."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    def share(self, batch: Sequence[Value]) -> tuple[list[Value], float]:
        """Return this rank's part of a batch, and what its losses and counts are multiplied by.

        A rank that would have nothing repeats the first at weight 0: a forward wants at least one, and
        everyone takes part in the sums.
        """
        return list(batch[self.rank :: self.count] or batch[:1]), float(self.rank < len(batch))

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over all ranks, with the same bits on each; without a backward pass.

        (..) -> (..).
        """
        tensor = tensor.detach()
        if self.count > 1:
            tensor = tensor.clone()
            distributed.all_reduce(tensor)
        return tensor

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum gradients over all ranks, in place.

        Sparse ones become dense, since the ranks' rows differ.
        """
        if self.count == 1:
            return
        waiting = []
        for p in parameters:
            grad = torch.zeros_like(p) if p.grad is None else p.grad
            p.grad = (grad.to_dense() if grad.is_sparse else grad).contiguous()
            waiting.append(distributed.all_reduce(p.grad, async_op=True))
        for work in waiting:
            work.wait()

    def told(self, score: Callable[[], float], device: torch.device) -> Callable[[], float]:
        """Return on every rank the score that rank 0 computes.

        Best step and early stopping follow from it.
        """

        def same() -> float:
            value = torch.tensor(score() if self.rank == 0 else 0.0, dtype=torch.float64, device=device)
            distributed.broadcast(value, 0)
            return float(value)

        return score if self.count == 1 else same


ALONE = Ranks()


def processes() -> int:
    """Count the processes that torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1)) if LAUNCHED in os.environ else 1


def leads() -> bool:
    """Say whether this is rank 0, the one that evaluates, writes and prints."""
    return processes() == 1 or os.environ["RANK"] == "0"


def refuse_ranks(what: str, instead: str) -> None:
    """Refuse several processes of torchrun for what one trains. Raises RequestError."""
    if processes() > 1:
        raise RequestError(f"torchrun started {processes()} processes, and {what} in one only; {instead}")


def own_device(device: str) -> str:
    """Return the device of this rank: of "cuda" the GPU with its local number.

    Raises RequestError where there is not one GPU for each.
    """
    if processes() == 1 or not device.startswith("cuda"):
        return device
    here, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if device != "cuda" or here > gpus:
        raise RequestError(
            f"torchrun started {here} processes here, device {device!r} came and torch sees {gpus} GPUs; "
            "expected device cuda and no more processes than GPUs: lower --nproc-per-node, or give "
            "--device cpu"
        )
    return f"cuda:{os.environ['LOCAL_RANK']}"


@contextmanager
def join_ranks(device: torch.device) -> Iterator[Ranks]:
    """Join torchrun's processes, by gloo or, on GPUs, nccl; ALONE without torchrun."""
    if processes() == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


@contextmanager
def one_voice() -> Iterator[None]:
    """Let rank 0 print, and the others be silent.

    They are late with a mistake: torchrun ends them when rank 0 has said the same.
    """
    if leads():
        yield
        return
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield
    except SoftcueError:
        time.sleep(GRACE)
        raise
