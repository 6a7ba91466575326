"""The state of one job while it trains: its items, its learning rate, and which step is kept."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from softcue.readers.items import Item
from softcue.training.checkpoint import Saved
from softcue.training.optim import rate_factor
from softcue.training.settings import Training

POOL = 50  # batches among which items are sorted by length, as in transformers
EVALUATIONS = 40  # a run is scored after each epoch, but at most about this many times
# the fields of a TrainingRun that a checkpoint holds as JSON
CHANGING = ("step", "highest", "best", "best_step", "stale", "done", "history")


@dataclass
class TrainingRun:
    """The state of one job while it trains."""

    seat: int
    items: Sequence[Item]
    training: Training
    score: Callable[[], float]  # on the selection rows; higher is better
    seed: int
    rows: int  # how many selection rows there are
    # for each parameter, the share of the learning rate that it learns at in this seat; None: all of it
    units: Sequence[Tensor | None] = ()
    step: int = 0
    highest: float = float("-inf")  # the highest score so far
    # score of the step that is kept: the latest one whose score is the highest or close enough to it
    best: float = float("-inf")
    best_step: int = 0
    best_values: list[Tensor] = field(default_factory=list)  # parameters; empty before the first evaluation
    stale: int = 0  # evaluations since the last one whose step was kept
    done: bool = False
    history: list[dict[str, float]] = field(default_factory=list)  # step, loss and score of each evaluation
    loss: Tensor = field(default_factory=lambda: torch.zeros(()))  # summed since the last evaluation
    order: list[int] = field(default_factory=list)  # of the items in this epoch

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)
        self.per_epoch = -(-len(self.items) // self.training.batch)  # steps
        self.total = self.per_epoch * self.training.epochs  # steps
        self.every = self.per_epoch * max(1, round(self.training.epochs / EVALUATIONS))  # steps
        self.warmup = round(self.training.warmup * self.total)  # steps

    def next_items(self) -> list[Item]:
        """Return the items of the next step."""
        place = self.step % self.per_epoch
        if place == 0:
            self.order = self.new_order()
        first = place * self.training.batch
        return [self.items[i] for i in self.order[first : first + self.training.batch]]

    def new_order(self) -> list[int]:
        """Draw the order of the items for one epoch."""
        order: list[int] = torch.randperm(len(self.items), generator=self.generator).tolist()
        if not self.training.group_by_length:
            return order
        rows = [item.rows for item in self.items]
        return by_length(order, rows, self.training.batch, self.generator)

    def rate(self) -> float:
        """Return the learning rate of this step."""
        return 0.0 if self.done else self.training.rate * self.factor(self.step)

    def factor(self, step: int) -> float:
        """Return the factor on the peak learning rate at a step."""
        return rate_factor(self.training.schedule, step, self.total, self.warmup, self.per_epoch)

    def keeps(self, score: float) -> bool:
        """Record the score of an evaluation, and say whether its step is kept.

        A step is also kept if the selection rows are too few to distinguish its score from the highest.
        """
        self.highest = max(self.highest, score)
        share = min(max(self.highest, 0.0), 1.0)
        standard_error = math.sqrt(share * (1 - share) / self.rows)
        near = score >= self.highest - self.training.tolerance * standard_error
        self.stale = 0 if near else self.stale + 1
        return near

    def gives_up(self) -> bool:
        """Say whether the run's patience is used up: too many evaluations in a row kept no step."""
        return bool(self.training.patience and self.stale >= self.training.patience)

    def saved(self) -> Saved:
        """Return everything that changes while the run trains, except its seat's parameters."""
        tensors = {f"best.{i}": values for i, values in enumerate(self.best_values)}
        tensors["order"] = torch.tensor(self.order, dtype=torch.long)
        tensors["generator"] = self.generator.get_state()
        tensors["loss"] = self.loss.float()
        return Saved(tensors, {name: getattr(self, name) for name in CHANGING})

    def load(self, saved: Saved, device: torch.device) -> None:
        """Restore what saved() returned."""
        for name in CHANGING:
            setattr(self, name, saved.state[name])
        self.order = saved.tensors["order"].tolist()
        self.loss = saved.tensors["loss"].to(device)
        self.generator.set_state(saved.tensors["generator"])
        count = sum(name.startswith("best.") for name in saved.tensors)
        self.best_values = [saved.tensors[f"best.{i}"].to(device) for i in range(count)]


def by_length(order: Sequence[int], rows: Sequence[int], batch: int, generator: torch.Generator) -> list[int]:
    """Return an order with items of similar length in the same batch, and the batches shuffled.

    Items are sorted by length only within groups of POOL batches, so the order of the groups stays random.
    """
    size = POOL * batch
    pools = [order[first : first + size] for first in range(0, len(order), size)]
    alike = [i for pool in pools for i in sorted(pool, key=lambda i: -rows[i])]
    whole = len(alike) // batch  # batches that are full
    places = torch.randperm(whole, generator=generator).tolist()
    shuffled = [i for place in places for i in alike[place * batch : (place + 1) * batch]]
    return shuffled + alike[whole * batch :]  # a batch that is not full stays last
