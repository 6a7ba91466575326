"""The training loop: every run on a seat of its own, one forward for all of them."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from softcue.errors import RequestError
from softcue.evaluation import pack_items
from softcue.model import Model, Output
from softcue.optim import SeatAdamW, rate_factor
from softcue.prepare import Item
from softcue.settings import Training

Precision = Callable[[], AbstractContextManager[Any]]
EVALUATIONS = 40  # a run is scored after each epoch, but at most about this often


@dataclass
class Run:
    """One job while it trains."""

    seat: int
    items: Sequence[Item]
    training: Training
    score: Callable[[], float]  # on the selection rows; higher is better
    seed: int
    step: int = 0
    best: float = float("-inf")
    best_step: int = 0
    best_numbers: list[Tensor] = field(default_factory=list)
    stale: int = 0  # evaluations since the best
    done: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    loss: Tensor = field(default_factory=lambda: torch.zeros(()))  # summed since the last evaluation
    order: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)
        self.per_epoch = -(-len(self.items) // self.training.batch)
        self.total = self.per_epoch * self.training.epochs
        self.every = self.per_epoch * max(1, round(self.training.epochs / EVALUATIONS))
        self.warmup = round(self.training.warmup * self.total)

    def next_items(self) -> list[Item]:
        """The next step's items; every epoch in an order of its own."""
        if self.step % self.per_epoch == 0:
            self.order = torch.randperm(len(self.items), generator=self.generator).tolist()
        at = self.step % self.per_epoch * self.training.batch
        return [self.items[i] for i in self.order[at : at + self.training.batch]]

    def rate(self) -> float:
        """This step's learning rate."""
        t = self.training
        return 0.0 if self.done else t.rate * rate_factor(t.schedule, self.step, self.total, self.warmup, self.per_epoch)


def seat_losses(output: Output, targets: Sequence[Any], seat: Tensor, seats: int) -> Tensor:
    """(A,) each seat's own mean loss, penalties included; targets: one per example in the order of the request."""
    zeros = torch.zeros(seats, device=seat.device)
    total, count = zeros, zeros
    for part in output.parts:
        losses, counts = part.head.loss(part.logits, part.head.target(targets, part.batch), part.batch)
        own = seat[part.examples]
        total, count = total.index_add(0, own, losses), count.index_add(0, own, counts)
    examples = zeros.index_add(0, seat, torch.ones(len(seat), device=seat.device))
    return total / count.clamp(min=1) + zeros.index_add(0, seat, output.penalty) / examples.clamp(min=1)


def fit(
    model: Model,
    runs: Sequence[Run],
    precision: Precision = nullcontext,
    report: Callable[[Run], None] = lambda run: None,
) -> None:
    """Train every run to its end and leave its best numbers in its seat.

    precision: a context for forward and loss (autocast, for an unfrozen encoder); report: called after every step of a run.
    Raises RequestError for a run that diverged before it was ever scored.
    """
    parameters = model.tuned()
    optimizer = SeatAdamW(parameters, len(model.places))
    model.train()
    model.encoder.train(runs[0].training.backbone_dropout)
    while live := [run for run in runs if not run.done]:
        picked = [(item, run.seat) for run in live for item in run.next_items()]
        items, seats = [item for item, _ in picked], [seat for _, seat in picked]
        batch = pack_items(model, items, seats)
        with precision():
            output = model(batch)
            losses = seat_losses(output, [t for item in items for t in item.targets], batch.seat, len(model.places))
        losses.sum().backward()
        optimizer.step(*_vectors(runs, len(model.places), losses.device))
        for run in live:
            _advance(run, losses.detach()[run.seat], parameters, len(model.places))
            report(run)
    model.eval()  # the encoder is shared: whoever uses it next expects no dropout
    lost = [run for run in runs if not run.best_numbers]
    if lost:
        rates = ", ".join(sorted({f"{run.training.rate:g}" for run in lost}))
        raise RequestError(f"training diverged (the loss is not a finite number) at rate {rates}; lower the rate, or set clip")
    for run in runs:
        restore(run.best_numbers, parameters, run.seat, len(model.places))


def _vectors(runs: Sequence[Run], seats: int, device: torch.device) -> Iterator[Tensor]:
    """Learning rate, weight decay and clip of every seat."""
    rows = torch.zeros(3, seats)
    for run in runs:
        rows[:, run.seat] = torch.tensor([run.rate(), run.training.decay, run.training.clip or float("inf")])
    return iter(rows.to(device))


def _advance(run: Run, loss: Tensor, parameters: Sequence[Tensor], seats: int) -> None:
    """Count a step; at an evaluation keep the numbers if they are the best so far (ties: the later), stop if none came for long.

    A run whose loss or numbers are not finite stops there, with the best that it had.
    """
    run.step += 1
    run.loss = run.loss + loss
    if run.step % run.every and run.step < run.total:
        return
    summed, numbers = float(run.loss), snapshot(parameters, run.seat, seats)
    if not (math.isfinite(summed) and all(bool(torch.isfinite(part).all()) for part in numbers)):
        run.done = True
        return
    score = run.score()
    since = run.step - (run.history[-1]["step"] if run.history else 0)
    run.history.append({"step": run.step, "loss": summed / since, "score": score})
    run.loss = torch.zeros_like(run.loss)
    if score >= run.best:
        run.best, run.best_step, run.stale = score, run.step, 0
        run.best_numbers = numbers
    else:
        run.stale += 1
    run.done = run.step >= run.total or bool(run.training.patience and run.stale >= run.training.patience)


def snapshot(parameters: Sequence[Tensor], seat: int, seats: int) -> list[Tensor]:
    """A copy of one seat's numbers; with one seat, of everything."""
    return [(p.detach() if seats == 1 else p.detach()[seat]).clone() for p in parameters]


@torch.no_grad()
def restore(numbers: Sequence[Tensor], parameters: Sequence[Tensor], seat: int, seats: int) -> None:
    """Put a snapshot back."""
    for p, saved in zip(parameters, numbers, strict=True):
        (p if seats == 1 else p[seat]).copy_(saved)
