"""Trackers: where the course of a training run is logged - JSON lines always, and the services
that people already use.
"""

import importlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from softcue.errors import RequestError, WriteError
from softcue.training.job import Prepared
from softcue.training.jobs import Report
from softcue.training.run import TrainingRun

PROJECT = "softcue"  # what our runs are filed under
BEGINNING = b'{"event": "start", '  # of every log.jsonl of ours


class Tracker(Protocol):
    """What takes a run's log; anything with these three functions will do."""

    def start(self, config: Mapping[str, Any]) -> None:
        """Log all that determines the run, flat, before the first step."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log loss, score and learning rate after an evaluation."""

    def finish(self, scores: Mapping[str, Any]) -> None:
        """Log the scores of the best step after the last one."""


class JsonLines:
    """One JSON object a line in log.jsonl, whole after every line; a resumed run goes on in the same file."""

    def __init__(self, folder: Path) -> None:
        self.path, self.began = folder / "log.jsonl", time.monotonic()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                file.seek(0)
                data = file.read()
                if data[: len(BEGINNING)] != BEGINNING[: len(data)]:
                    raise WriteError(
                        f"{self.path} is not a log that softcue wrote; give another folder for the log, or "
                        "move it away"
                    )
                file.truncate(data.rfind(b"\n") + 1)  # a line that a full disk cut short
            if not data:  # opening it has shown that it can be written; a run that is refused leaves none
                self.path.unlink()
        except OSError as error:
            raise WriteError(
                f"--log {folder} cannot be written to: {error.strerror}; give a folder for the log"
            ) from error

    def start(self, config: Mapping[str, Any]) -> None:
        """Write {"event": "start", "config": {..}}."""
        self._write({"event": "start", "config": dict(config)})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write {"event": "step", "step": .., "loss": .., ..}."""
        self._write({"event": "step", "step": step, **values})

    def finish(self, scores: Mapping[str, Any]) -> None:
        """Write {"event": "finish", "scores": {..}}."""
        self._write({"event": "finish", "scores": dict(scores)})

    def _write(self, entry: Mapping[str, Any]) -> None:
        line = (
            json.dumps({**entry, "seconds": round(time.monotonic() - self.began, 3)}, ensure_ascii=False)
            + "\n"
        )
        try:
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(line)
        except OSError as error:
            raise WriteError(f"cannot write {self.path}: {error.strerror}") from error


class TensorBoard:
    """Event files beside log.jsonl."""

    def __init__(self, folder: Path | None) -> None:
        if folder is None:
            raise RequestError("tensorboard writes files; say where with --log FOLDER")
        self.folder, self.module = folder, _module("tensorboard", "torch.utils.tensorboard")

    def start(self, config: Mapping[str, Any]) -> None:
        """Log the settings as text."""
        self.writer = self.module.SummaryWriter(str(self.folder))
        self.writer.add_text("config", "\n".join(f"    {key}: {value}" for key, value in config.items()))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log a scalar each."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def finish(self, scores: Mapping[str, Any]) -> None:
        """Log scalars final/.., without a step."""
        for name, value in numbers(scores).items():
            self.writer.add_scalar(f"final/{name}", value)
        self.writer.close()


class Wandb:
    """Weights & Biases; account, mode and server as its own environment variables say."""

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.module = folder, _module("wandb", "wandb")

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin a run of the project softcue."""
        self.run = self.module.init(
            project=PROJECT, config=dict(config), dir=None if self.folder is None else str(self.folder)
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log a row of the history."""
        self.run.log(dict(values), step=step)

    def finish(self, scores: Mapping[str, Any]) -> None:
        """Log the summary."""
        self.run.summary.update({f"final/{name}": value for name, value in numbers(scores).items()})
        self.run.finish()


class Mlflow:
    """MLflow; its server and experiment as its own environment variables say."""

    LONGEST = 500  # characters of a parameter, in its oldest stores

    def __init__(self, folder: Path | None) -> None:
        self.module = _module("mlflow", "mlflow")

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin a run with the settings as parameters."""
        self.module.start_run(run_name=PROJECT)
        self.module.log_params({key: str(value)[: self.LONGEST] for key, value in config.items()})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log a metric each."""
        self.module.log_metrics(dict(values), step=step)

    def finish(self, scores: Mapping[str, Any]) -> None:
        """Log metrics final_.. ."""
        self.module.log_metrics({f"final_{name}": value for name, value in numbers(scores).items()})
        self.module.end_run()


class Trackio:
    """Trackio, as it is configured."""

    def __init__(self, folder: Path | None) -> None:
        self.module = _module("trackio", "trackio")

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin a run of the project softcue."""
        self.module.init(project=PROJECT, config=dict(config))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log a row of the history."""
        self.module.log(dict(values), step=step)

    def finish(self, scores: Mapping[str, Any]) -> None:
        """Log a last row final/.. ."""
        self.module.log({f"final/{name}": value for name, value in numbers(scores).items()})
        self.module.finish()


SERVICES: Mapping[str, Callable[[Path | None], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": Mlflow,
    "trackio": Trackio,
}


def open_trackers(folder: Path | None, names: Sequence[str]) -> list[Tracker]:
    """Open JSON lines where there is a folder, and the services named.

    Raises RequestError for one that is unknown or not installed.
    """
    wrong = [name for name in names if name not in SERVICES]
    if wrong:
        raise RequestError(f"there is no tracker {', '.join(wrong)}; expected one of {', '.join(SERVICES)}")
    services = [SERVICES[name](folder) for name in dict.fromkeys(names)]
    return [*([] if folder is None else [JsonLines(folder)]), *services]


def following(trackers: Sequence[Tracker], report: Report) -> Report:
    """Return a report for one job that logs each evaluation, and calls `report` as well."""

    def log(prepared: Prepared, run: TrainingRun) -> None:
        report(prepared, run)
        if run.history and run.history[-1]["step"] == run.step:
            last = run.history[-1]
            values = {
                "loss": last["loss"],
                "score": last["score"],
                "rate": run.training.rate * run.factor(run.step - 1),
            }
            for tracker in trackers:
                tracker.log(run.step, values)

    return log


def numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    """Return those scores that are numbers."""
    return {name: float(value) for name, value in scores.items() if isinstance(value, int | float)}


def _module(name: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RequestError(
            f"tracker {name} is not installed ({error}); pip install 'softcue[track]' brings it"
        ) from error
