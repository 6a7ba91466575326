"""Fits a head to a frozen encoder's outputs, which are computed once.

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

# Factors of half the squared weights, for features with mean square 1 and a loss that is summed over rows.
# Ridge regression's loss has no factor of a half, so its penalties are half of these.
PENALTIES = (300.0, 100.0, 30.0, 10.0)
GRADIENT = 1e-4  # a fit ends when no component of the mean loss's gradient is larger
STEPS_AT_MOST = 500
MOST_BYTES = 4 * 2**30  # of features in memory


@dataclass(frozen=True)
class Features:
    """The input of the head's linear layer for some items."""

    items: Sequence[Item]
    values: Tensor  # (M, D) float32, in the order of the items: one for each example, or for each word
    batch: Batch  # the items' examples, with one row each: everything else that a head needs

    def joined(self, other: "Features") -> "Features":
        """Return the features of both, one after the other."""
        items = [*self.items, *other.items]
        return Features(items, torch.cat([self.values, other.values]), outline(items, self.values.device))

    def targets(self, head: Head) -> Tensor:
        """Return the targets of the head."""
        return head.target([target for item in self.items for target in item.targets], self.batch)


@dataclass(frozen=True)
class Fit:
    """A head that is fitted to the training rows."""

    penalty: float
    score: float  # on the selection rows
    loss: float  # mean over the training rows
    reading: Reading  # with the threshold that the selection rows chose


def fit_adapter(
    prepared: Prepared,
    base: Base,
    report: Callable[[Prepared, TrainingRun], None] = lambda prepared, run: None,
) -> Adapter:
    """Fit a job's head, and return its adapter with the scores on the reported rows."""
    model = Model.single(base.backbone.encoder, prepared.cue, prepared.head)
    model = model.to(model.device)
    fit = fit_head(prepared, model)
    run = _one_step(prepared, fit)
    prepared = replace(prepared, reading=fit.reading)
    report(prepared, run)
    adapter = finished_adapter(model, run, prepared, base)
    return replace(adapter, training={"penalty": fit.penalty})


def fit_head(prepared: Prepared, model: Model) -> Fit:
    """Fit the model's head to the job's rows, with the penalty that has the least loss on the selection rows.

    If the selection rows were set aside from train, the final fit learns them too, because they chose only
    the penalty. Raises RequestError if the features need too much memory.
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
    """Run the encoder once over each item, in batches of a limited number of rows."""
    # joined outside inference mode, so that a loss can be computed from them
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
    """Return a batch of the items' examples in order, with one row each and their words, but no text."""
    counted = [(i, len(one.example.word)) for i, item in enumerate(items) for one in item.encoded]
    examples = [Example((0,), (0,), (0,), (0,) * words) for _, words in counted]
    return pack(examples, group=[i for i, _ in counted], device=device)


def scale(values: Tensor) -> tuple[Tensor, float]:
    """Return the mean of features and the root mean square of their differences from it: (M, D) -> (D,).

    The root mean square is one number for all dimensions. A penalty then means the same for every encoder,
    and dimensions that vary more have more weight.
    """
    variance, mean = torch.var_mean(values, 0, correction=0)
    return mean, float(variance.mean().sqrt()) or 1.0  # 1 if all rows are equal


@torch.no_grad()
def unscale(head: Head, mean: Tensor, size: float) -> None:
    """Convert a head that was fitted to (features - mean) / size, so that it takes the features: (D,)."""
    head.weight.div_(size)
    head.bias.sub_(head.weight @ mean)


def choose_penalty(head: Head, train: Features, select: Features) -> float:
    """Return the penalty with the least mean loss on the selection rows; among equals, the largest."""
    target, losses = select.targets(head), []
    for penalty in PENALTIES:
        minimise(head, train, penalty)
        with torch.no_grad():
            losses.append(_mean_loss(head, select, target).item())
    return PENALTIES[losses.index(min(losses))]


def minimise(head: Head, rows: Features, penalty: float) -> float:
    """Minimise the head's summed loss plus `penalty` times half its squared weights; return the mean loss.

    It begins with the head's current parameters.
    """
    target = rows.targets(head)
    count = len(rows.values)
    own = [head.weight, head.bias]

    def load(values: np.ndarray) -> None:
        parts = torch.as_tensor(values, dtype=torch.float32).split([one.numel() for one in own])
        with torch.no_grad():
            for parameter, part in zip(own, parts, strict=True):
                parameter.copy_(part.view_as(parameter))

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        load(values)
        loss = _mean_loss(head, rows, target)
        loss = loss + penalty / 2 / count * head.weight.square().sum()
        return loss.item(), _joined(torch.autograd.grad(loss, own))

    settings = {"maxiter": STEPS_AT_MOST, "gtol": GRADIENT, "ftol": 1e-9}
    found = minimize(objective, _joined(own), jac=True, method="L-BFGS-B", options=settings)
    load(found.x)
    with torch.no_grad():
        return _mean_loss(head, rows, target).item()


def _mean_loss(head: Head, rows: Features, target: Tensor) -> Tensor:
    """Return the loss divided by the number of rows; a row without a target has loss 0."""
    losses, _ = head.loss(head.logits(rows.values, rows.batch), target, rows.batch)
    return losses.sum() / len(rows.values)


def _joined(tensors: Sequence[Tensor]) -> np.ndarray:
    return torch.cat([one.detach().flatten() for one in tensors]).double().cpu().numpy()


@torch.no_grad()
def _answers(head: Head, rows: Features) -> list[Tensor]:
    """Return the head's answer for each item, in the form that evaluation uses."""
    found = dict(head.answers(head.logits(rows.values, rows.batch), rows.batch))
    return [joined_answer([found[i]], item) for i, item in enumerate(rows.items)]


def _check_memory(items: Sequence[Item], head: Head) -> None:
    """Raise RequestError, before the encoder runs, if the features need too much memory."""
    width = head.weight.shape[-1]
    vectors = sum(_vectors(items, head))
    if 4 * vectors * width > MOST_BYTES:
        most = MOST_BYTES // 4 // width
        raise RequestError(
            f"a head needs a fit to {vectors:,} vectors of width {width}; expected at most {most:,}: give "
            "fewer rows (--rows), or train another method"
        )


def _vectors(items: Sequence[Item], head: Head) -> Iterator[int]:
    for item in items:
        yield from (len(one.example.word) if head.reads == "words" else 1 for one in item.encoded)


def _one_step(prepared: Prepared, fit: Fit) -> TrainingRun:
    """Return the fit as a training run with one step over all rows, for reports and trackers."""
    rows = len(prepared.selection.select)
    once = Training(epochs=1, batch=min(len(prepared.items), 100_000))
    run = TrainingRun(0, prepared.items, once, lambda: fit.score, prepared.job.seed, rows)
    run.total = run.step = run.best_step = 1
    run.best, run.done = fit.score, True
    run.history.append({"step": 1, "loss": fit.loss, "score": fit.score})
    return run
