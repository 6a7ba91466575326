"""Full fine-tuning: trains the whole encoder with a head.

It is a baseline, and saves a whole checkpoint instead of an adapter.
"""

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from softcue.adapter import OWN_ENCODER, Adapter, refuse_foreign
from softcue.base import Base
from softcue.encoder.load import save_checkpoint
from softcue.errors import RequestError
from softcue.files import write_folder
from softcue.model import Model
from softcue.readers.splits import select
from softcue.training.checkpoint import Checkpoints, Saved
from softcue.training.conditions import identity
from softcue.training.finished import finished_adapter, untrained
from softcue.training.job import Job, prepare, seeded
from softcue.training.jobs import Report, diverged, make_run
from softcue.training.loop import fit
from softcue.training.parallel import join_ranks, leads, refuse_ranks
from softcue.training.settings import preset

METHOD = "full"  # not a cue: it has no file in cues/, only one seat, and Predictor cannot mix it with others
HEAD_ONLY = "probe"  # its adapter's method: on top of its own encoder, the adapter is a linear probe


@dataclass(frozen=True)
class Checkpoint:
    """Holds a fine-tuned encoder and its head."""

    adapter: Adapter
    base: Base

    @property
    def scores(self) -> Mapping[str, Any]:
        """The scores, in the form of Adapter.scores."""
        return self.adapter.scores

    def save(self, folder: str | Path) -> Path:
        """Write the adapter's two files, and the encoder as a Hugging Face checkpoint in `folder`/encoder."""

        def fill(into: Path) -> None:
            save_checkpoint(self.base.backbone.encoder, into / OWN_ENCODER, self.base.backbone.folder)
            saved = Base(replace(self.base.backbone, folder=into / OWN_ENCODER), self.base.text)
            replace(self.adapter, fingerprint=saved.fingerprint).write(into)

        return write_folder(folder, fill, refuse_foreign)


def train_full(
    job: Job, base: Base, report: Report = lambda prepared, run: None, checkpoints: Checkpoints | None = None
) -> Checkpoint:
    """Fine-tune a copy of the base's encoder with a head.

    The weights are float32, with autocast if the base is in bfloat16. Under torchrun the processes share each
    step's batch; all end with the same parameters, and only rank 0 has the scores. Raises RequestError for
    settings of a method, because it has none, and DivergedError if it diverged before its first evaluation.
    """
    if job.settings:
        raise RequestError(f"full fine-tuning has no settings; {', '.join(job.settings)} came")
    if checkpoints is not None:
        refuse_ranks(
            "a run with checkpoints trains",
            "leave checkpoints (--checkpoint) out, or run it without torchrun",
        )
    frozen = base.backbone.encoder
    low = next(frozen.parameters()).dtype == torch.bfloat16
    encoder = copy.deepcopy(frozen).float().requires_grad_(True)
    own = Base(replace(base.backbone, encoder=encoder), base.text)
    # The encoder is trained, so its outputs are not frozen.
    selection = job.selection or select(job.data, job.seed, job.from_train)
    prepared = prepare(replace(job, method=HEAD_ONLY, selection=selection), own)
    training = preset(METHOD, job.data.kind, len(prepared.items), job.training)
    prepared = replace(prepared, training=training, fitted=False)
    # An adapter that cannot be saved is refused now, not after the last step.
    replace(untrained(prepared, own), tuned=METHOD, backbone=OWN_ENCODER).check_savable()
    model = Model.single(encoder, prepared.cue, prepared.head)
    model = model.to(model.device)

    def precision() -> AbstractContextManager[Any]:
        return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=low)

    def offer(make: Callable[[], Saved]) -> None:
        if checkpoints is not None and checkpoints.due():
            checkpoints.write(make())

    saved = None if checkpoints is None else checkpoints.open({"jobs": identity([job], base)})
    run = make_run(model, 0, prepared, precision)
    # Each rank has its own seed, so that the dropout masks differ.
    with join_ranks(model.device) as ranks, seeded(job.seed + ranks.rank):
        run.score = ranks.told(run.score, model.device)
        fit(model, [run], precision, lambda run: report(prepared, run), saved=saved, offer=offer, ranks=ranks)
    if not run.best_values:
        raise diverged([(METHOD, prepared.training.rate)])
    encoder.requires_grad_(False)
    if not leads():  # only rank 0 scores the reported rows
        prepared = replace(prepared, selection=replace(prepared.selection, report=[]))
    with precision():
        adapter = finished_adapter(model, run, prepared, own)
    named = replace(adapter, tuned=METHOD, backbone=OWN_ENCODER, precision=base.precision)
    return Checkpoint(named, own)
