"""Conditions: all that determines what a job ends with, ready for JSON, so that two runs can be
told apart.
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
    """Return each job's conditions but for its method, its seed and its split.

    What it shares with other jobs comes first.
    """
    digests = {id(data): digest_of(data) for data in {id(job.data): job.data for job in jobs}.values()}
    return [_conditions(job, base, digests[id(job.data)]) for job in jobs]


def identity(jobs: Sequence[Job], base: Base) -> list[dict[str, Any]]:
    """Return all conditions of each job.

    Two lists of jobs that agree here end with the same numbers.
    """
    chosen = {
        id(job.selection): digest_of_selection(job.selection) for job in jobs if job.selection is not None
    }
    own = [
        {
            "method": job.method,
            "seed": job.seed,
            "from_train": job.from_train,
            "selection": chosen.get(id(job.selection)),
        }
        for job in jobs
    ]
    return [{**named, **made} for named, made in zip(own, conditions(jobs, base), strict=True)]


def _conditions(job: Job, base: Base, digest: str) -> dict[str, Any]:
    method = Cue.registry.get(job.method)  # None: full fine-tuning
    made: dict[str, Any] = {
        "softcue": __version__,
        "data": digest,
        "backbone": base.fingerprint,
        "precision": str(next(base.backbone.encoder.parameters()).dtype),
        "device": next(base.backbone.encoder.parameters()).device.type,
        "pooling": choose_pooling(job.pooling, base),
        "limit": job.limit,
        "config": {} if method is None else asdict(make_config(method, job.data.kind, job.settings)),
        "training": asdict(
            preset(job.method, job.data.kind, len(job.data.splits.get("train", ())), job.training)
        ),
        "plugin": None if method is None else source_digest(method),
    }
    made = dict(json.loads(json.dumps(made)))  # tuples as JSON gives them back
    return made


def digest_of(data: Data) -> str:
    """Return SHA-256 of the records and of how they are scored."""
    return _digest((data.kind, data.labels, data.metrics, data.positive, data.pair), data.splits)


def digest_of_selection(selection: Selection) -> str:
    """Return SHA-256 of the rows by what they are for, and of how that is written."""
    return _digest(
        selection.measured, {"train": selection.train, "select": selection.select, "report": selection.report}
    )


def _digest(first: Any, parts: Mapping[str, Sequence[Record]]) -> str:
    hashed = hashlib.sha256(repr(first).encode())
    for name, records in parts.items():
        for r in records:
            hashed.update(
                repr(
                    (name, r.text, r.pair, r.choices, r.tokens, r.label, r.tags, r.group, dict(r.extra))
                ).encode()
            )
    return hashed.hexdigest()
