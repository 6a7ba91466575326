"""What training ends with: a seat's numbers as an adapter, with its scores."""

from dataclasses import asdict, replace
from typing import Any

from softcue.adapter import Adapter, lift
from softcue.answering.evaluation import evaluate_seat
from softcue.answering.seating import lift_seat
from softcue.base import Base
from softcue.model import Model
from softcue.training.job import Prepared
from softcue.training.run import TrainingRun


def finished_adapter(model: Model, run: TrainingRun, prepared: Prepared, base: Base) -> Adapter:
    """Return a trained seat as an adapter, scored on the rows to report, if there are any."""
    reading = prepared.reading
    records = prepared.selection.report
    items = prepared.read(records, reading)
    scores: dict[str, Any] = {}
    if items:
        scores |= evaluate_seat(model, run.seat, items, records, reading, prepared.job.data)
    scores["selection"] = run.best
    scores["selection_step"] = run.best_step
    scores["truncated"] = sum(item.dropped > 0 for item in items)
    cue, head = lift_seat(model, run.seat)
    return replace(untrained(prepared, base), scores=scores, cue=cue, head=head)


def untrained(prepared: Prepared, base: Base) -> Adapter:
    """Return the adapter before training: with its initial numbers, and without scores."""
    job = prepared.job
    reading = prepared.reading
    cue, head = lift(prepared.cue, 0, prepared.head, 0)
    return Adapter(
        method=job.method,
        config=prepared.cue.config,
        dims=base.backbone.encoder.dims,
        backbone=base.backbone.name,
        fingerprint=base.fingerprint,
        kind=reading.kind,
        labels=reading.labels,
        pooling=prepared.head.pooling,
        pair=job.data.pair,
        limit=reading.limit,
        centre=reading.centre,
        spread=reading.spread,
        task=job.data.name,
        subset=job.data.subset,
        scores={},
        measured=prepared.selection.measured,
        seed=job.seed,
        training={} if prepared.fitted else asdict(prepared.training),
        cue=cue,
        head=head,
    )
