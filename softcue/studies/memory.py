"""A sweep's memory: the groups that are finished, each whole on disk before it counts."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from softcue import __version__
from softcue.adapter import Adapter, check_place
from softcue.base import Base
from softcue.errors import RequestError, SoftcueError, WriteError
from softcue.files import read_json, write_file
from softcue.plugins import source_digest
from softcue.studies.search import Runner
from softcue.studies.trials import (
    Group,
    Outcome,
    Result,
    Terms,
    Trial,
    device_of,
    settled_config,
    trial_training,
)
from softcue.training.conditions import digest_of
from softcue.training.job import choose_pooling, method_class

KEPT = ("score", "step", "rate", "epochs", "rows")  # fields of an Outcome that a group's file holds


class Memory:
    """A runner that trains through another one what a folder does not hold yet.

    The name of a group's file is a hash over all that determines the group's scores.
    """

    def __init__(
        self, folder: Path, terms: Terms, base: Base, runner: Runner, say: Callable[[str], None]
    ) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(
                f"--out {folder.parent} cannot be written to ({error.strerror}); expected a new folder or a "
                "sweep's"
            ) from error
        self.folder = folder
        self.terms = terms
        self.runner = runner
        self.say = say
        self.digests = {name: digest_of(data) for name, data in terms.data.items()}
        self.common = {
            "softcue": __version__,
            "backbone": base.fingerprint,
            "precision": str(next(base.backbone.encoder.parameters()).dtype),
            "device": device_of(base),
            "pooling": choose_pooling(terms.pooling, base),
            "limit": terms.limit,
        }

    def __call__(self, groups: Sequence[Group]) -> Iterator[tuple[int, Result]]:
        """Yield what is found, then what had to be trained, as every Runner does."""
        names = [self.name(group) for group in groups]
        absent = []
        for number, (group, name) in enumerate(zip(groups, names, strict=True)):
            found = self.read(name, group)
            if found is None:
                absent.append(number)
                self.check_places(name, group)
            else:
                yield number, found
        for place, result in self.runner([groups[number] for number in absent]):
            number = absent[place]
            self.write(names[number], result)
            yield number, result

    def name(self, group: Group) -> str:
        """Return a hash over everything that determines the group's scores."""
        conditions = {**self.common, "trials": [self._conditions(trial) for trial in group]}
        return hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:32]

    def check_places(self, name: str, group: Group) -> None:
        """Refuse, before a group is trained, folders of its adapters that saving would refuse later."""
        for number in range(len({trial.data for trial in group})):
            check_place(self.folder / f"{name}-{number}")

    def _conditions(self, trial: Trial) -> dict[str, Any]:
        method = method_class(trial.point.method)
        return {
            **asdict(trial),
            "data": self.digests[trial.data],
            "config": asdict(settled_config(trial, self.terms)),
            "training": asdict(trial_training(trial, self.terms)),
            "plugin": source_digest(method),
        }

    def write(self, name: str, result: Result) -> None:
        """Write a group's adapters, then its file of outcomes: that file says that all is there."""
        for number, adapter in enumerate(result.adapters.values()):
            adapter.save(self.folder / f"{name}-{number}")
        outcomes = []
        for outcome in result.outcomes:
            outcomes.append({name: getattr(outcome, name) for name in KEPT})
        kept = {"outcomes": outcomes, "adapters": list(result.adapters), "seconds": result.seconds}
        write_file(self.folder / f"{name}.json", json.dumps(kept, indent=1).encode())

    def read(self, name: str, group: Group) -> Result | None:
        """Return a finished group, or None if it is not there or damaged; damage is said, too."""
        file = self.folder / f"{name}.json"
        if not file.exists():
            return None
        try:
            kept = read_json(file, RequestError)
            outcomes = tuple(
                Outcome(trial, **values) for trial, values in zip(group, kept["outcomes"], strict=True)
            )
            adapters = {
                data: Adapter.load(self.folder / f"{name}-{number}")
                for number, data in enumerate(kept["adapters"])
            }
            return Result(outcomes, adapters, float(kept["seconds"]))
        except (SoftcueError, KeyError, TypeError, ValueError) as error:
            self.say(f"warning: {file} is damaged ({error}); its runs are made again")
            return None
