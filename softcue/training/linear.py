"""Fitting a head to a frozen encoder's outputs, which are computed once.

The head's own loss and an L2 penalty are minimised by L-BFGS over all rows at once: multinomial logistic
regression for labels and tags, logistic
regression for each of several labels, conditional logit for choices, ridge regression for scores.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from softcue.adapter import Adapter
from softcue.answering.evaluation import ROW_BUDGET, batches, joined_answer, judge, tuned
from softcue.base import Base
from softcue.batch import Batch, Example, pack
from softcue.errors import RequestError
from softcue.heads import Head
from softcue.model import Model
from softcue.readers.items import Item, Reading
from softcue.training.finished import finished_adapter
from softcue.training.job import Prepared
from softcue.training.run import TrainingRun
from softcue.training.settings import Training

# Factors of half the squared weights, for features of mean square 1; the loss is summed over rows. Ridge
# regression's, whose loss has no half, are half of it.
PENALTIES = (300.0, 100.0, 30.0, 10.0)
GRADIENT = 1e-4  # of the mean loss: the largest part of it at which a fit ends
STEPS_AT_MOST = 500
MOST_BYTES = 4 * 2**30  # of features held at once


@dataclass(frozen=True)
class Features:
    """What the head's linear map reads of some items."""

    items: Sequence[Item]
    values: Tensor  # (M, D) float32, in the order of the items: an example's or its words'
    batch: Batch  # the items' examples, one row each: what a head must know beside the values

    def joined(self, other: "Features") -> "Features":
        """Return both, one after the other."""
        items = [*self.items, *other.items]
        return Features(items, torch.cat([self.values, other.values]), outline(items, self.values.device))

    def targets(self, head: Head) -> Tensor:
        """Return what the head should give."""
        return head.target([target for item in self.items for target in item.targets], self.batch)


@dataclass(frozen=True)
class Fit:
    """A head that is fitted to the training rows."""

    penalty: float
    score: float  # on the selection rows
    loss: float  # mean over the training rows
    reading: Reading  # with what the selection rows have chosen


def fit_adapter(
    prepared: Prepared,
    base: Base,
    report: Callable[[Prepared, TrainingRun], None] = lambda prepared, run: None,
) -> Adapter:
    """Fit a job's head and return its adapter, scored on the rows to report."""
    model = Model.single(base.backbone.encoder, prepared.cue, prepared.head)
    model = model.to(model.device)
    fit = fit_head(prepared, model)
    run = _one_step(prepared, fit)
    prepared = replace(prepared, reading=fit.reading)
    report(prepared, run)
    adapter = finished_adapter(model, run, prepared, base)
    return replace(adapter, training={"penalty": fit.penalty})


def fit_head(prepared: Prepared, model: Model) -> Fit:
    """Fit the model's head to the job's rows, with the penalty whose loss is the least on those that select.

    Rows that the job itself has set aside from train are learnt as well in the end: they chose one number
    only. RequestError for features that take too much memory.
    """
    job, selection, head = prepared.job, prepared.selection, model.head(0)
    held = prepared.read(selection.select, prepared.reading)
    _check_memory([*prepared.items, *held], head)
    model.eval()
    train, select = features(model, prepared.items), features(model, held)
    mean, size = scale(train.values)
    for values in (train.values, select.values):
        values.sub_(mean).div_(size)
    with torch.no_grad():  # a fit does not depend on the seed
        head.weight.zero_()
    penalty = choose_penalty(head, train, select)
    loss = minimise(head, train, penalty)
    answers = _answers(head, select)
    reading = tuned(answers, selection.select, prepared.reading)
    score = judge(answers, selection.select, reading, job.data)[job.data.metric]
    if selection.aside and job.selection is None and not job.from_train:
        loss = minimise(head, train.joined(select), penalty)
    unscale(head, mean, size)
    return Fit(penalty, score, loss, reading)


def features(model: Model, items: Sequence[Item]) -> Features:
    """Run the encoder once over each item, in batches by a budget of rows."""
    # put together outside inference mode, so that a loss can be formed of them
    return Features(items, torch.cat(_encoded(model, items)), outline(items, model.device))


@torch.inference_mode()
def _encoded(model: Model, items: Sequence[Item]) -> list[Tensor]:
    """Return the features of each example: (rows, D), in the order of the items."""
    single = [Item((one,), (None,)) for item in items for one in item.encoded]
    parts: list[Tensor] = [torch.empty(0)] * len(single)
    for numbers in batches(single, ROW_BUDGET):
        batch = model.pack([single[i].examples[0] for i in numbers], [0] * len(numbers))
        own = model.feature(batch).split(list(model.head(0).rows(batch)))
        for place, values in zip(batch.order, own, strict=True):
            parts[numbers[place]] = values
    return parts


def outline(items: Sequence[Item], device: torch.device) -> Batch:
    """Return a batch of the items' examples in their order, with one row and their words, without text."""
    counted = [(i, len(one.example.word)) for i, item in enumerate(items) for one in item.encoded]
    examples = [Example((0,), (0,), (0,), (0,) * words) for _, words in counted]
    return pack(examples, group=[i for i, _ in counted], device=device)


def scale(values: Tensor) -> tuple[Tensor, float]:
    """Return the mean of features and the root mean square of what they differ from it: (M, D) -> (D,).

    One size serves all of them, so that a penalty means the same for every encoder and directions that vary
    more weigh more.
    """
    variance, mean = torch.var_mean(values, 0, correction=0)
    return mean, float(variance.mean().sqrt()) or 1.0  # 1 where all rows are equal


@torch.no_grad()
def unscale(head: Head, mean: Tensor, size: float) -> None:
    """Let a head that was fitted to (features - mean) / size read the features as they are: (D,)."""
    head.weight.div_(size)
    head.bias.sub_(head.weight @ mean)


def choose_penalty(head: Head, train: Features, select: Features) -> float:
    """Return the penalty with the least mean loss on the rows that select; of equals the largest."""
    target, losses = select.targets(head), []
    for penalty in PENALTIES:
        minimise(head, train, penalty)
        with torch.no_grad():
            losses.append(_mean_loss(head, select, target).item())
    return PENALTIES[losses.index(min(losses))]


def minimise(head: Head, rows: Features, penalty: float) -> float:
    """Minimise the head's summed loss and `penalty` times half its squared weights; return the mean loss.

    It begins with the numbers that the head has.
    """
    target = rows.targets(head)
    count = len(rows.values)
    own = [head.weight, head.bias]

    def load(numbers: np.ndarray) -> None:
        parts = torch.as_tensor(numbers, dtype=torch.float32).split([one.numel() for one in own])
        with torch.no_grad():
            for parameter, part in zip(own, parts, strict=True):
                parameter.copy_(part.view_as(parameter))

    def objective(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        load(numbers)
        loss = _mean_loss(head, rows, target)
        loss = loss + penalty / 2 / count * head.weight.square().sum()
        return loss.item(), _numbers(torch.autograd.grad(loss, own))

    settings = {"maxiter": STEPS_AT_MOST, "gtol": GRADIENT, "ftol": 1e-9}
    found = minimize(objective, _numbers(own), jac=True, method="L-BFGS-B", options=settings)
    load(found.x)
    with torch.no_grad():
        return _mean_loss(head, rows, target).item()


def _mean_loss(head: Head, rows: Features, target: Tensor) -> Tensor:
    """Return the loss over the number of rows: what is not learnt counts as a loss of 0."""
    losses, _ = head.loss(head.logits(rows.values, rows.batch), target, rows.batch)
    return losses.sum() / len(rows.values)


def _numbers(tensors: Sequence[Tensor]) -> np.ndarray:
    return torch.cat([one.detach().flatten() for one in tensors]).double().cpu().numpy()


@torch.no_grad()
def _answers(head: Head, rows: Features) -> list[Tensor]:
    """Return an answer for each item, as evaluation does."""
    found = dict(head.answers(head.logits(rows.values, rows.batch), rows.batch))
    return [joined_answer([found[i]], item) for i, item in enumerate(rows.items)]


def _check_memory(items: Sequence[Item], head: Head) -> None:
    """Refuse features that would not fit, before the encoder runs."""
    width = head.weight.shape[-1]
    vectors = sum(_vectors(items, head))
    if 4 * vectors * width > MOST_BYTES:
        most = MOST_BYTES // 4 // width
        raise RequestError(
            f"{vectors:,} vectors of {width} numbers came to fit a head to; expected at most {most:,}: give "
            "fewer rows (--rows), or train another method"
        )


def _vectors(items: Sequence[Item], head: Head) -> Iterator[int]:
    for item in items:
        yield from (len(one.example.word) if head.reads == "words" else 1 for one in item.encoded)


def _one_step(prepared: Prepared, fit: Fit) -> TrainingRun:
    """Return the fit as whoever follows a training sees it: one step over all rows."""
    rows = len(prepared.selection.select)
    once = Training(epochs=1, batch=min(len(prepared.items), 100_000))
    run = TrainingRun(0, prepared.items, once, lambda: fit.score, prepared.job.seed, rows)
    run.total = run.step = run.best_step = 1
    run.best, run.done = fit.score, True
    run.history.append({"step": 1, "loss": fit.loss, "score": fit.score})
    return run
