"""Conditions: everything that determines the result of a job, as values that JSON can hold.

Two runs with the same conditions end with the same parameters.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from softcue import __version__
from softcue.base import Base
from softcue.cues import Cue
from softcue.plugins import source_digest
from softcue.readers.records import Data, Record
from softcue.readers.splits import Selection
from softcue.training.job import Job, choose_pooling, make_config
from softcue.training.settings import preset


def conditions(jobs: Sequence[Job], base: Base) -> list[dict[str, Any]]:
    """Return the conditions of each job, except its method, its seed and its split.

    What a job shares with other jobs comes first.
    """
    different = {id(job.data): job.data for job in jobs}  # jobs often share one data set
    digests = {key: digest_of(data) for key, data in different.items()}
    return [_conditions(job, base, digests[id(job.data)]) for job in jobs]


def identity(jobs: Sequence[Job], base: Base) -> list[dict[str, Any]]:
    """Return all conditions of each job; if they are equal for two lists of jobs, so are the results."""
    chosen = {
        id(job.selection): digest_of_selection(job.selection) for job in jobs if job.selection is not None
    }
    found = []
    for job, others in zip(jobs, conditions(jobs, base), strict=True):
        own = {
            "method": job.method,
            "seed": job.seed,
            "from_train": job.from_train,
            "selection": chosen.get(id(job.selection)),
        }
        found.append({**own, **others})
    return found


def _conditions(job: Job, base: Base, digest: str) -> dict[str, Any]:
    method = Cue.registry.get(job.method)  # None: full fine-tuning
    weight = next(base.backbone.encoder.parameters())
    rows = len(job.data.splits.get("train", ()))
    found = {
        "softcue": __version__,
        "data": digest,
        "backbone": base.fingerprint,
        "precision": str(weight.dtype),
        "device": weight.device.type,
        "pooling": choose_pooling(job.pooling, base),
        "limit": job.limit,
        "config": {} if method is None else asdict(make_config(method, job.data.kind, job.settings)),
        "training": {}
        if method is not None and method.frozen_outputs
        else asdict(preset(job.method, job.data.kind, rows, job.training)),
        "plugin": None if method is None else source_digest(method),
    }
    # Reading it back from JSON turns tuples into lists, as in a file.
    return dict(json.loads(json.dumps(found)))


def digest_of(data: Data) -> str:
    """Return a SHA-256 of the records, their metrics, and the settings with which they were read."""
    read = sorted(data.columns.items()), data.encoding, data.rows  # these are saved in the adapter
    return _digest((data.kind, data.labels, data.metrics, data.positive, data.pair, read), data.splits)


def digest_of_selection(selection: Selection) -> str:
    """Return a SHA-256 of the rows by their use, and of the text that describes it."""
    parts = {"train": selection.train, "select": selection.select, "report": selection.report}
    return _digest(selection.measured, parts)


def _digest(first: Any, parts: Mapping[str, Sequence[Record]]) -> str:
    hashed = hashlib.sha256(repr(first).encode())
    for name, records in parts.items():
        for r in records:
            fields = (
                name,
                r.text,
                r.pair,
                r.choices,
                r.tokens,
                r.label,
                r.labels,
                r.tags,
                r.group,
                dict(r.extra),
            )
            hashed.update(repr(fields).encode())
    return hashed.hexdigest()
