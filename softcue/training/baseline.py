"""A note for a training that was not worth its time: a linear head on the frozen encoder is as good."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from softcue.base import Base
from softcue.cues import Cue
from softcue.errors import RequestError
from softcue.model import Model
from softcue.readers.splits import select
from softcue.training.full import HEAD_ONLY
from softcue.training.full import METHOD as FULL
from softcue.training.job import Job, prepare
from softcue.training.linear import fit_head


def say_of_linear(job: Job, base: Base, trained: float, say: Callable[[str], None]) -> None:
    """Print a note if a linear head, fitted to the same training rows, scores at least `trained`.

    Both scores are on the selection rows; the reported rows choose nothing. There is no note if the job
    itself was such a fit, or if its features need too much memory.
    """
    if job.method != FULL and Cue.registry[job.method].frozen_outputs:
        return
    selection = job.selection or select(job.data, job.seed, job.from_train)
    linear = replace(job, method=HEAD_ONLY, settings={}, training={}, selection=selection)
    with suppress(RequestError):
        prepared = prepare(linear, base)
        model = Model.single(base.backbone.encoder, prepared.cue, prepared.head)
        score = fit_head(prepared, model.to(model.device)).score
        if score >= trained:
            rows = "a tenth of train" if selection.aside else "dev"
            say(
                f"note: a linear head on the frozen encoder is as good on {rows} ({job.data.metric} "
                f"{score:.3f}, {job.method} {trained:.3f}); --method {HEAD_ONLY} takes seconds"
            )
