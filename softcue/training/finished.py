"""The end of training: turns a seat's parameters into an adapter with its scores."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from softcue.adapter import Adapter, lift
from softcue.answering.evaluation import evaluate_seat, tuned
from softcue.answering.evaluation import run as answer_items
from softcue.answering.seating import lift_seat
from softcue.base import Base
from softcue.kinds import KINDS
from softcue.model import Model
from softcue.readers.items import Item, Reading
from softcue.training.job import Prepared
from softcue.training.run import TrainingRun

LARGE_HEAD = 4_096  # parameters (16 KB); a smaller weight always stays in float32
MOST_CHANGE = 0.002  # the most that rounding the head may change any metric


def finished_adapter(model: Model, run: TrainingRun, prepared: Prepared, base: Base) -> Adapter:
    """Return a trained seat as an adapter, scored on the reported rows, if there are any."""
    items = prepared.read(prepared.selection.report, prepared.reading)
    prepared = replace(prepared, reading=_tuned_reading(model, run.seat, prepared))
    scores: dict[str, Any] = {}
    if items:
        scores |= _scores(model, run, prepared, items)
    scores["selection"] = run.best
    scores["selection_step"] = run.best_step
    scores["truncated"] = sum(item.dropped > 0 for item in items)
    cue, head = lift_seat(model, run.seat)
    adapter = replace(untrained(prepared, base), scores=scores, cue=cue, head=head)
    if not items or not worth_rounding(adapter, model):
        return adapter
    return smallest(adapter, model, run.seat, lambda: _scores(model, run, prepared, items))


def _tuned_reading(model: Model, seat: int, prepared: Prepared) -> Reading:
    """Return the reading with the threshold that gives the best score on the selection rows.

    A fitted head chose its threshold earlier, because it may have learnt these rows since.
    """
    reading, records = prepared.reading, prepared.selection.select
    if prepared.fitted or not KINDS[reading.kind].has_threshold:
        return reading
    items = prepared.read(records, reading)
    return tuned(answer_items(model, items, [seat] * len(items)), records, reading)


def _scores(model: Model, run: TrainingRun, prepared: Prepared, items: Sequence[Item]) -> dict[str, float]:
    """Return the metrics of a seat on the reported rows."""
    records = prepared.selection.report
    return evaluate_seat(model, run.seat, items, records, prepared.reading, prepared.job.data)


def worth_rounding(adapter: Adapter, model: Model) -> bool:
    """Say whether the head's weight is large, and larger than the rest of the adapter and a tuned encoder.

    Rounding answers the reported rows once or twice more, so it is tried only then.
    """
    head = adapter.head["weight"].numel()
    others = sum(tensor.numel() for tensor in adapter.cue.values())
    others += sum(p.numel() for p in model.encoder.parameters() if p.requires_grad)
    return head > LARGE_HEAD and head > others


@torch.no_grad()
def smallest(adapter: Adapter, model: Model, seat: int, score: Callable[[], dict[str, float]]) -> Adapter:
    """Return the adapter with its head in the fewest bytes that change no metric by more than MOST_CHANGE.

    The adapter's scores are those of the rounded head. score: returns the metrics of `seat`. The seat's head
    is the same before and after the call.
    """
    place = model.places[seat]
    weight = model.head(place.head).weight[place.head_seat, : len(adapter.head["weight"])]
    try:
        for precision in ("int8", "float16"):
            small = adapter.with_head(precision)
            if not bool(small.head["weight"].isfinite().all()):
                continue
            weight.copy_(small.head["weight"])
            scores = score()
            changes = [round(abs(value - adapter.scores[name]), 9) for name, value in scores.items()]
            if all(change <= MOST_CHANGE for change in changes):  # false for a change that is NaN
                return replace(small, scores={**adapter.scores, **scores})
    finally:
        weight.copy_(adapter.head["weight"])
    return adapter


def untrained(prepared: Prepared, base: Base) -> Adapter:
    """Return the adapter before training, with its initial parameters and without scores."""
    job = prepared.job
    reading = prepared.reading
    cue, head = lift(prepared.cue, 0, prepared.head, 0)
    return Adapter(
        method=job.method,
        config=prepared.cue.config,
        dims=base.backbone.encoder.dims,
        backbone=base.backbone.name,
        fingerprint=base.fingerprint,
        precision=base.precision,
        kind=reading.kind,
        labels=reading.labels,
        pooling=prepared.head.pooling,
        pair=job.data.pair,
        limit=reading.limit,
        centre=reading.centre,
        spread=reading.spread,
        threshold=reading.threshold,
        task=job.data.name,
        columns=job.data.columns,
        encoding=job.data.encoding,
        rows=job.data.rows,
        subset=job.data.subset,
        scores={},
        measured=prepared.selection.measured,
        metric=job.data.metric,
        seed=job.seed,
        training={} if prepared.fitted else asdict(prepared.training),
        cue=cue,
        head=head,
    )
