"""The training loop: every run on a seat of its own, one forward for all of them."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from softcue.answering.evaluation import pack_items
from softcue.model import Model, Output
from softcue.training.checkpoint import Saved
from softcue.training.optim import SeatAdamW
from softcue.training.parallel import ALONE, Ranks
from softcue.training.run import TrainingRun

Autocast = Callable[[], AbstractContextManager[Any]]
# called after every step with what gives the state that a checkpoint would hold
OfferCheckpoint = Callable[[Callable[[], Saved]], None]


def seat_losses(
    output: Output,
    targets: Sequence[Any],
    seat: Tensor,
    seats: int,
    whole: Callable[[Tensor], Tensor] = lambda count: count,
) -> Tensor:
    """Return each seat's own mean loss, penalties included: (A,).

    targets: one per example in the order of the request.

    whole: (A,) counts of these examples -> those that the mean is over, where these are a part of the batch.
    """
    zeros = torch.zeros(seats, device=seat.device)
    total, count = zeros, zeros
    for part in output.parts:
        losses, counts = part.head.loss(part.logits, part.head.target(targets, part.batch), part.batch)
        own = seat[part.examples]
        total, count = total.index_add(0, own, losses), count.index_add(0, own, counts)
    examples = zeros.index_add(0, seat, torch.ones(len(seat), device=seat.device))
    return total / whole(count).clamp(min=1) + zeros.index_add(0, seat, output.penalty) / whole(
        examples
    ).clamp(min=1)


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
    """Train every run to its end and leave its best numbers in its seat.

    precision: a context for forward and loss (autocast, for an unfrozen encoder); report: called after every
    step of a run;
    ended: called when a run has ended, with its best numbers in its seat; the run that it gives takes the
    seat over;
    saved: go on from there, with the runs that sat there then; ranks: the processes that share each step's
    batch. A run that diverged before it was ever scored ends without best numbers.
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
    model.eval()  # the encoder is shared: whoever uses it next expects no dropout


class Loop:
    """The runs in the seats of one model, and the optimiser that they share."""

    def __init__(self, model: Model, runs: Sequence[TrainingRun], ranks: Ranks) -> None:
        self.model, self.seats, self.parameters, self.ranks = model, len(model.places), model.tuned(), ranks
        self.runs = {run.seat: run for run in runs}
        self.optimizer = SeatAdamW(self.parameters, self.seats, model.rate_shares())
        for run in runs:
            self.optimizer.measure(run.seat, run.units)

    def step(self, live: Sequence[TrainingRun], precision: Autocast) -> Tensor:
        """Run one forward pass for all live runs, and one update; return the losses: (A,)."""
        picked, weight = self.ranks.share([(item, run.seat) for run in live for item in run.next_items()])
        items, seats = [item for item, _ in picked], [seat for _, seat in picked]
        batch = pack_items(self.model, items, seats)
        with precision():
            output = self.model(batch)
            targets = [target for item in items for target in item.targets]
            losses = weight * seat_losses(
                output, targets, batch.seat, self.seats, lambda count: self.ranks.sum(weight * count)
            )
        losses.sum().backward()
        self.ranks.sum_gradients(self.parameters)
        self.optimizer.step(*_vectors(self.runs.values(), self.seats))
        return self.ranks.sum(losses)

    def end(self, run: TrainingRun, ended: Callable[[TrainingRun], TrainingRun | None]) -> None:
        """Put the run's best numbers back, and give its seat to the next."""
        # also where nobody follows: a diverged run's moments would spoil the numbers put back
        self.optimizer.reset(run.seat)
        if run.best_numbers:
            restore(run.best_numbers, self.parameters, run.seat, self.seats)
        following = ended(run)
        if following is not None:
            self.runs[run.seat] = following
            self.optimizer.measure(run.seat, following.units)

    def saved(self) -> Saved:
        """Return all that the next step depends on, but for the jobs themselves."""
        parameters = {str(i): parameter for i, parameter in enumerate(self.parameters)}
        return Saved.join(
            {
                "parameters": Saved(parameters),
                "optimizer": Saved(self.optimizer.state()),
                "random": Saved(_random_state(self.model.device)),
                **{f"seat {run.seat}": run.saved() for run in self.runs.values()},
            }
        )

    @torch.no_grad()
    def load(self, saved: Saved) -> None:
        """Go on from where saved() was asked for."""
        numbers = saved.part("parameters").tensors
        for i, parameter in enumerate(self.parameters):
            parameter.copy_(numbers[str(i)])
        self.optimizer.load(saved.part("optimizer").tensors)
        _set_random_state(saved.part("random").tensors, self.model.device)
        for run in self.runs.values():
            run.load(saved.part(f"seat {run.seat}"), self.model.device)


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of the generators that dropout draws from."""
    state = {"cpu": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def _set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def _vectors(runs: Iterable[TrainingRun], seats: int) -> Iterator[Tensor]:
    """Return learning rate, weight decay, clip and the head's share of the rate of every seat, on the CPU."""
    rows = torch.zeros(4, seats)
    for run in runs:
        training = run.training
        rows[:, run.seat] = torch.tensor(
            [run.rate(), training.decay, training.clip or float("inf"), training.head_rate]
        )
    return iter(rows)


def _advance(run: TrainingRun, loss: Tensor, parameters: Sequence[Tensor], seats: int) -> None:
    """Count a step; at an evaluation keep the numbers if none were better, stop if none came for long.

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
    if run.keeps(score):
        run.best, run.best_step, run.best_numbers = score, run.step, numbers
    run.done = run.step >= run.total or run.gives_up()


def snapshot(parameters: Sequence[Tensor], seat: int, seats: int) -> list[Tensor]:
    """Copy one seat's numbers; with one seat, everything."""
    return [(p.detach() if seats == 1 else p.detach()[seat]).clone() for p in parameters]


@torch.no_grad()
def restore(numbers: Sequence[Tensor], parameters: Sequence[Tensor], seat: int, seats: int) -> None:
    """Put a snapshot back."""
    for p, saved in zip(parameters, numbers, strict=True):
        (p if seats == 1 else p[seat]).copy_(saved)
