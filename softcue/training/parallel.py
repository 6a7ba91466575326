"""The processes that torchrun has started.

They share the batch of each step, and rank 0 decides and speaks for all.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from softcue.errors import RequestError, SoftcueError

# torchrun alone sets this variable. Other launchers set RANK and WORLD_SIZE too, with another meaning.
LAUNCHED = "TORCHELASTIC_RUN_ID"
# Seconds that the other ranks wait before they raise a mistake, so that rank 0 is the first to print it.
GRACE = 10.0
Value = TypeVar("Value")


class Ranks:
    """One process among those that train one model together; a single process communicates with nobody."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    def share(self, batch: Sequence[Value]) -> tuple[list[Value], float]:
        """Return this rank's part of a batch, and what its losses and counts are multiplied by.

        A rank that would get nothing takes the batch's first element at weight 0: a forward pass needs at
        least one, and every rank takes part in the sums.
        """
        part = batch[self.rank :: self.count] or batch[:1]
        weight = 1.0 if self.rank < len(batch) else 0.0
        return list(part), weight

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over all ranks: the same bits on each, and without a backward pass.

        (..) -> (..).
        """
        tensor = tensor.detach()
        if self.count > 1:
            tensor = tensor.clone()
            distributed.all_reduce(tensor)
        return tensor

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients over all ranks, in place.

        Sparse gradients become dense, since each rank has its own rows.
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

        The best step and early stopping follow from the score, so that the ranks have to agree on it.
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
    """Return how many processes torchrun has started, or 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1)) if LAUNCHED in os.environ else 1


def leads() -> bool:
    """Say whether this is rank 0, the one that evaluates, writes and prints."""
    return processes() == 1 or os.environ["RANK"] == "0"


def refuse_ranks(what: str, instead: str) -> None:
    """Raise RequestError if torchrun has started several processes for what only one can train.

    what: the beginning of a sentence, such as "adapters train".
    instead: what to do, for the message.
    """
    if processes() > 1:
        raise RequestError(f"torchrun started {processes()} processes, and {what} in one only; {instead}")


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
            f"torchrun started {here} processes here, device {device!r} came and torch sees {gpus} GPUs; "
            "expected device cuda and no more processes than GPUs: lower --nproc-per-node, or give "
            "--device cpu"
        )
    return f"cuda:{os.environ['LOCAL_RANK']}"


@contextmanager
def join_ranks(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun started, by nccl on GPUs and gloo elsewhere.

    Without torchrun there is nobody to join, and what is yielded is ALONE.
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
    """Let rank 0 alone print.

    The other ranks are silent, and raise a mistake late: by then rank 0 has printed the same one, and
    torchrun has ended them.
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
