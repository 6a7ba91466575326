"""One training run: its rows in order, its learning rate, its best step and its patience."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from softcue.readers.items import Item
from softcue.training.checkpoint import Saved
from softcue.training.optim import rate_factor
from softcue.training.settings import Training

POOL = 50  # batches among which items are put together by length, as in transformers
EVALUATIONS = 40  # a run is scored after each epoch, but at most about this often


@dataclass
class TrainingRun:
    """One job while it trains."""

    seat: int
    items: Sequence[Item]
    training: Training
    score: Callable[[], float]  # on the selection rows; higher is better
    seed: int
    rows: int  # that select
    # of each parameter's numbers in its seat: they learn at this part of the rate
    units: Sequence[Tensor | None] = ()
    step: int = 0
    highest: float = float("-inf")  # score so far
    # score of the step that is kept: the latest that is as good as the highest, or near enough
    best: float = float("-inf")
    best_step: int = 0
    best_numbers: list[Tensor] = field(default_factory=list)  # none: it was never scored
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
        """Return the next step's items; every epoch has an order of its own."""
        if self.step % self.per_epoch == 0:
            self.order = torch.randperm(len(self.items), generator=self.generator).tolist()
            if self.training.group_by_length:
                self.order = by_length(
                    self.order, [item.rows for item in self.items], self.training.batch, self.generator
                )
        at = self.step % self.per_epoch * self.training.batch
        return [self.items[i] for i in self.order[at : at + self.training.batch]]

    def rate(self) -> float:
        """Return this step's learning rate."""
        return 0.0 if self.done else self.training.rate * self.factor(self.step)

    def factor(self, step: int) -> float:
        """Return what the peak rate is multiplied by at a step."""
        return rate_factor(self.training.schedule, step, self.total, self.warmup, self.per_epoch)

    def keeps(self, score: float) -> bool:
        """Note the score of an evaluation, and say whether its step is kept.

        It is kept where so many rows cannot tell it from the highest.
        """
        self.highest = max(self.highest, score)
        share = min(max(self.highest, 0.0), 1.0)
        near = score >= self.highest - self.training.tolerance * math.sqrt(share * (1 - share) / self.rows)
        self.stale = 0 if near else self.stale + 1
        return near

    def gives_up(self) -> bool:
        """Say whether no step was kept for as long as its patience lasts."""
        return bool(self.training.patience and self.stale >= self.training.patience)

    def saved(self) -> Saved:
        """Return all that changes while it trains, but for its seat's numbers."""
        best = {f"best.{i}": numbers for i, numbers in enumerate(self.best_numbers)}
        order = torch.tensor(self.order, dtype=torch.long)
        tensors = {**best, "order": order, "generator": self.generator.get_state(), "loss": self.loss.float()}
        return Saved(tensors, {name: getattr(self, name) for name in CHANGING})

    def load(self, saved: Saved, device: torch.device) -> None:
        """Go on from where saved() was asked for."""
        for name in CHANGING:
            setattr(self, name, saved.state[name])
        self.order, self.loss = saved.tensors["order"].tolist(), saved.tensors["loss"].to(device)
        self.generator.set_state(saved.tensors["generator"])
        count = sum(name.startswith("best.") for name in saved.tensors)
        self.best_numbers = [saved.tensors[f"best.{i}"].to(device) for i in range(count)]


def by_length(order: Sequence[int], rows: Sequence[int], batch: int, generator: torch.Generator) -> list[int]:
    """Return the order with the items of each POOL batches put together by their rows.

    The batches then follow one another by chance.
    """
    pools = [order[at : at + POOL * batch] for at in range(0, len(order), POOL * batch)]
    alike = [i for pool in pools for i in sorted(pool, key=lambda i: -rows[i])]
    whole = len(alike) // batch  # a last one that is short stays last
    places = torch.randperm(whole, generator=generator).tolist()
    return [i for place in places for i in alike[place * batch : (place + 1) * batch]] + alike[
        whole * batch :
    ]


CHANGING = ("step", "highest", "best", "best_step", "stale", "done", "history")
