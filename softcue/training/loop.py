"""The training loop: every run has its own seat, and one forward pass serves all of them."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from softcue.answering.evaluation import pack_items
from softcue.model import Model, Output
from softcue.training.checkpoint import Saved
from softcue.training.optim import SeatAdamW
from softcue.training.parallel import ALONE, Ranks
from softcue.training.run import TrainingRun

LEAST_COUNT = 1e-12  # by which a mean's sum is divided at least
Autocast = Callable[[], AbstractContextManager[Any]]
# called after every step with a function that returns what a checkpoint would hold
OfferCheckpoint = Callable[[Callable[[], Saved]], None]


@dataclass(frozen=True)
class SeatSettings:
    """The optimiser's arguments at one step: one number for each seat, (A,), on the CPU."""

    rate: Tensor
    decay: Tensor
    clip: Tensor
    head_rate: Tensor  # the head's share of the learning rate


def seat_losses(
    output: Output,
    targets: Sequence[Any],
    seat: Tensor,
    seats: int,
    whole: Callable[[Tensor], Tensor] = lambda count: count,
) -> Tensor:
    """Return each seat's own mean loss, penalties included: (A,).

    targets: one for each example, in the order of the request.
    whole: returns what to divide the summed losses by, (A,) -> (A,). It is called with the counts of these
    examples, which may be only a part of the batch.
    """
    zeros = torch.zeros(seats, device=seat.device)
    total, count = zeros, zeros
    for part in output.parts:
        target = part.head.target(targets, part.batch)
        losses, counts = part.head.loss(part.logits, target, part.batch)
        own = seat[part.examples]
        total = total.index_add(0, own, losses)
        count = count.index_add(0, own, counts)
    examples = zeros.index_add(0, seat, torch.ones(len(seat), device=seat.device))
    penalty = zeros.index_add(0, seat, output.penalty)
    # a count is a sum of weights, so it may be less than 1; the mean of no examples is 0
    return total / whole(count).clamp(min=LEAST_COUNT) + penalty / whole(examples).clamp(min=1)


def fit(
    model: Model,
    runs: Sequence[TrainingRun],
    precision: Autocast = nullcontext,
    report: Callable[[TrainingRun], None] = lambda run: None,
    ended: Callable[[TrainingRun], TrainingRun | None] = lambda run: None,
    saved: Saved | None = None,
    offer: OfferCheckpoint = lambda make: None,
    ranks: Ranks = ALONE,
) -> None:
    """Train every run to its end and leave its best parameters in its seat.

    A run that diverged before its first evaluation has no best parameters.

    precision: a context for forward pass and loss (autocast, for an unfrozen encoder).
    report: called after every step of a run.
    ended: called when a run has ended, with its best parameters in its seat. The run that it returns takes
    over the seat.
    saved: a checkpoint to continue from; `runs` must be those that had the seats when it was written.
    offer: called after every step of the loop.
    ranks: the processes that share each step's batch.
    """
    loop = Loop(model, runs, ranks)
    if saved is not None:
        loop.load(saved)
    model.train()
    model.encoder.train(runs[0].training.backbone_dropout)
    while live := [run for run in loop.runs.values() if not run.done]:
        losses = loop.step(live, precision)
        for run in live:
            _advance(run, losses[run.seat], loop.parameters, loop.seats)
            report(run)
        for run in live:
            if run.done:
                loop.end(run, ended)
        offer(loop.saved)
    model.eval()  # the encoder is shared, and its next user expects no dropout


class Loop:
    """The runs in the seats of one model, and the optimiser that they share."""

    def __init__(self, model: Model, runs: Sequence[TrainingRun], ranks: Ranks) -> None:
        self.model = model
        self.seats = len(model.places)
        self.parameters = model.tuned()
        self.ranks = ranks
        self.runs = {run.seat: run for run in runs}
        self.optimizer = SeatAdamW(self.parameters, self.seats, model.rate_shares())
        for run in runs:
            self.optimizer.measure(run.seat, run.units)

    def step(self, live: Sequence[TrainingRun], precision: Autocast) -> Tensor:
        """Run one forward pass for all live runs, update their parameters, and return the losses, (A,)."""
        wanted = [(item, run.seat) for run in live for item in run.next_items()]
        picked, weight = self.ranks.share(wanted)
        items = [item for item, _ in picked]
        seats = [seat for _, seat in picked]
        targets = [target for item in items for target in item.targets]

        def over_all_ranks(count: Tensor) -> Tensor:
            return self.ranks.sum(weight * count)

        batch = pack_items(self.model, items, seats)
        with precision():
            output = self.model(batch)
            losses = weight * seat_losses(output, targets, batch.seat, self.seats, over_all_ranks)
        losses.sum().backward()
        self.ranks.sum_gradients(self.parameters)
        now = _seat_settings(self.runs.values(), self.seats)
        self.optimizer.step(now.rate, now.decay, now.clip, now.head_rate)
        return self.ranks.sum(losses)

    def end(self, run: TrainingRun, ended: Callable[[TrainingRun], TrainingRun | None]) -> None:
        """Put the run's best parameters back, and give its seat to the next run."""
        # The moments are cleared even if no run follows: those of a diverged run would spoil the restored
        # parameters.
        self.optimizer.reset(run.seat)
        if run.best_values:
            restore(run.best_values, self.parameters, run.seat, self.seats)
        following = ended(run)
        if following is not None:
            self.runs[run.seat] = following
            self.optimizer.measure(run.seat, following.units)

    def saved(self) -> Saved:
        """Return everything that the next step depends on, except the jobs themselves."""
        parameters = {str(i): parameter for i, parameter in enumerate(self.parameters)}
        parts = {
            "parameters": Saved(parameters),
            "optimizer": Saved(self.optimizer.state()),
            "random": Saved(_random_state(self.model.device)),
        }
        for run in self.runs.values():
            parts[f"seat {run.seat}"] = run.saved()
        return Saved.join(parts)

    @torch.no_grad()
    def load(self, saved: Saved) -> None:
        """Restore what saved() returned."""
        values = saved.part("parameters").tensors
        for i, parameter in enumerate(self.parameters):
            parameter.copy_(values[str(i)])
        self.optimizer.load(saved.part("optimizer").tensors)
        _set_random_state(saved.part("random").tensors, self.model.device)
        for run in self.runs.values():
            run.load(saved.part(f"seat {run.seat}"), self.model.device)


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of the generators that dropout draws from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def _seat_settings(runs: Iterable[TrainingRun], seats: int) -> SeatSettings:
    """Return the settings of every seat at this step; those of an empty seat are zero."""
    rows = torch.zeros(4, seats)
    for run in runs:
        training = run.training
        clip = training.clip or float("inf")
        rows[:, run.seat] = torch.tensor([run.rate(), training.decay, clip, training.head_rate])
    return SeatSettings(*rows)


def _advance(run: TrainingRun, loss: Tensor, parameters: Sequence[Tensor], seats: int) -> None:
    """Count a step, and evaluate the run if an evaluation is due.

    An evaluation keeps the parameters if no earlier ones were better, and stops a run that has not improved
    for long. A run whose loss or parameters are not finite stops, and keeps its best parameters so far.
    """
    run.step += 1
    run.loss = run.loss + loss
    due = run.step % run.every == 0 or run.step >= run.total
    if not due:
        return
    summed = float(run.loss)
    values = snapshot(parameters, run.seat, seats)
    finite = math.isfinite(summed) and all(bool(torch.isfinite(part).all()) for part in values)
    if not finite:
        run.done = True
        return
    score = run.score()
    before = run.history[-1]["step"] if run.history else 0
    run.history.append({"step": run.step, "loss": summed / (run.step - before), "score": score})
    run.loss = torch.zeros_like(run.loss)
    if run.keeps(score):
        run.best = score
        run.best_step = run.step
        run.best_values = values
    run.done = run.step >= run.total or run.gives_up()


def snapshot(parameters: Sequence[Tensor], seat: int, seats: int) -> list[Tensor]:
    """Return a copy of one seat's parameters; if there is only one seat, of all parameters."""
    return [_of_seat(parameter.detach(), seat, seats).clone() for parameter in parameters]


@torch.no_grad()
def restore(values: Sequence[Tensor], parameters: Sequence[Tensor], seat: int, seats: int) -> None:
    """Copy a snapshot back into a seat."""
    for parameter, saved in zip(parameters, values, strict=True):
        _of_seat(parameter, seat, seats).copy_(saved)


def _of_seat(parameter: Tensor, seat: int, seats: int) -> Tensor:
    # With a single seat this is the whole parameter: an unfrozen encoder's parameters have no seat axis.
    return parameter if seats == 1 else parameter[seat]
