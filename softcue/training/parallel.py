"""The processes that torchrun started.

They share the batch of each step. Only rank 0 evaluates, writes and prints.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from softcue.errors import RequestError, SoftcueError

# Only torchrun sets this variable. Other launchers also set RANK and WORLD_SIZE, with another meaning.
LAUNCHED = "TORCHELASTIC_RUN_ID"
# Seconds that the other ranks wait before they raise an error, so that rank 0 prints it first.
GRACE = 10.0
Value = TypeVar("Value")


class Ranks:
    """One of the processes that train a model together; a single process does not communicate."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    def share(self, batch: Sequence[Value]) -> tuple[list[Value], float]:
        """Return this rank's part of a batch, and the weight of its losses and counts.

        A rank without a part takes the batch's first element with weight 0, because a forward pass needs at
        least one element and every rank must take part in the sums.
        """
        part = batch[self.rank :: self.count] or batch[:1]
        weight = 1.0 if self.rank < len(batch) else 0.0
        return list(part), weight

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over all ranks, with the same bits on each rank and without gradients.

        (..) -> (..).
        """
        tensor = tensor.detach()
        if self.count > 1:
            tensor = tensor.clone()
            distributed.all_reduce(tensor)
        return tensor

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients over all ranks, in place.

        Sparse gradients become dense, because each rank has other rows.
        """
        if self.count == 1:
            return
        waiting = []
        for p in parameters:
            grad = torch.zeros_like(p) if p.grad is None else p.grad
            dense = grad.to_dense() if grad.is_sparse else grad
            p.grad = dense.contiguous()
            waiting.append(distributed.all_reduce(p.grad, async_op=True))
        for work in waiting:
            work.wait()

    def told(self, score: Callable[[], float], device: torch.device) -> Callable[[], float]:
        """Return a function that gives every rank the score that rank 0 computes.

        All ranks need the same score, because it decides the best step and early stopping.
        """
        if self.count == 1:
            return score

        def same() -> float:
            own = score() if self.rank == 0 else 0.0
            value = torch.tensor(own, dtype=torch.float64, device=device)
            distributed.broadcast(value, 0)
            return float(value)

        return same


ALONE = Ranks()


def processes() -> int:
    """Return the number of processes that torchrun started, or 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", 1)) if LAUNCHED in os.environ else 1


def leads() -> bool:
    """Say whether this is rank 0, the one that evaluates, writes and prints."""
    return processes() == 1 or os.environ["RANK"] == "0"


def refuse_ranks(what: str, instead: str) -> None:
    """Raise RequestError if torchrun started several processes for a training that needs a single one.

    what: the beginning of a sentence, such as "adapters train".
    instead: what to do, for the message.
    """
    if processes() > 1:
        raise RequestError(f"torchrun started {processes()} processes, but {what} in one only; {instead}")


def own_device(device: str) -> str:
    """Return the device of this rank: for "cuda", the GPU with the rank's local number.

    Raises RequestError if there are fewer GPUs than processes on this machine.
    """
    if processes() == 1 or not device.startswith("cuda"):
        return device
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    gpus = torch.cuda.device_count()
    if device != "cuda" or here > gpus:
        raise RequestError(
            f"torchrun started {here} processes here with device {device!r}, and torch finds {gpus} GPUs; "
            "expected device cuda and no more processes than GPUs: lower --nproc-per-node, or give "
            "--device cpu"
        )
    return f"cuda:{os.environ['LOCAL_RANK']}"


@contextmanager
def join_ranks(device: torch.device) -> Iterator[Ranks]:
    """Connect to the other processes of torchrun, with nccl on GPUs and gloo elsewhere.

    Without torchrun it yields ALONE.
    """
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
    """Let only rank 0 print.

    The other ranks print nothing, and raise errors with a delay: before it ends, rank 0 has printed the same
    error, and torchrun has ended the other ranks.
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
