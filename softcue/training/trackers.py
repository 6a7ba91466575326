"""Trackers: log a training run to a file of JSON lines, or to a tracking service."""

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

PROJECT = "softcue"  # the project of all runs
BEGINNING = b'{"event": "start", '  # every log.jsonl of softcue begins with this


class Tracker(Protocol):
    """Any object with these three functions, which receive a run's log."""

    def start(self, config: Mapping[str, Any]) -> None:
        """Receive everything that determines the run, as a flat mapping; called before the first step."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Receive the loss, the score and the learning rate; called after each evaluation."""

    def finish(self, scores: Mapping[str, Any]) -> None:
        """Receive the scores of the best step; called after the last step."""


class JsonLines:
    """Writes a file log.jsonl with one JSON object on each line.

    After every line the file is complete; a resumed run continues the same file.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.jsonl"
        self.began = time.monotonic()
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
                file.truncate(data.rfind(b"\n") + 1)  # removes a last line that a full disk cut short
            if not data:  # opening it was only a test: a run that is refused later must not leave a file
                self.path.unlink()
        except OSError as error:
            raise WriteError(
                f"cannot write to --log {folder}: {error.strerror}; give a folder for the log"
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
        seconds = round(time.monotonic() - self.began, 3)
        line = json.dumps({**entry, "seconds": seconds}, ensure_ascii=False)
        try:
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(line + "\n")
        except OSError as error:
            raise WriteError(f"cannot write {self.path}: {error.strerror}") from error


class TensorBoard:
    """Event files beside log.jsonl."""

    def __init__(self, folder: Path | None) -> None:
        if folder is None:
            raise RequestError("tensorboard writes files; give their folder with --log FOLDER")
        self.folder = folder
        self.module = _module("tensorboard", "torch.utils.tensorboard")

    def start(self, config: Mapping[str, Any]) -> None:
        """Write the settings as text."""
        self.writer = self.module.SummaryWriter(str(self.folder))
        self.writer.add_text("config", "\n".join(f"    {key}: {value}" for key, value in config.items()))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write a scalar for each value."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def finish(self, scores: Mapping[str, Any]) -> None:
        """Write scalars named final/.., without a step."""
        for name, value in numbers(scores).items():
            self.writer.add_scalar(f"final/{name}", value)
        self.writer.close()


class Wandb:
    """Weights & Biases; its own environment variables give the account, the mode and the server."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = None if folder is None else str(folder)
        self.module = _module("wandb", "wandb")

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin a run of the project softcue."""
        self.run = self.module.init(project=PROJECT, config=dict(config), dir=self.folder)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write a row of the run's history."""
        self.run.log(dict(values), step=step)

    def finish(self, scores: Mapping[str, Any]) -> None:
        """Write the run's summary."""
        self.run.summary.update({f"final/{name}": value for name, value in numbers(scores).items()})
        self.run.finish()


class Mlflow:
    """MLflow; its own environment variables give the server and the experiment."""

    LONGEST = 500  # characters of a parameter, in its oldest stores

    def __init__(self, folder: Path | None) -> None:
        self.module = _module("mlflow", "mlflow")

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin a run with the settings as its parameters."""
        self.module.start_run(run_name=PROJECT)
        self.module.log_params({key: str(value)[: self.LONGEST] for key, value in config.items()})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write a metric for each value."""
        self.module.log_metrics(dict(values), step=step)

    def finish(self, scores: Mapping[str, Any]) -> None:
        """Write metrics named final_.. ."""
        self.module.log_metrics({f"final_{name}": value for name, value in numbers(scores).items()})
        self.module.end_run()


class Trackio:
    """Trackio, with its own configuration."""

    def __init__(self, folder: Path | None) -> None:
        self.module = _module("trackio", "trackio")

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin a run of the project softcue."""
        self.module.init(project=PROJECT, config=dict(config))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write a row of the run's history."""
        self.module.log(dict(values), step=step)

    def finish(self, scores: Mapping[str, Any]) -> None:
        """Write a last row, with names final/.. ."""
        self.module.log({f"final/{name}": value for name, value in numbers(scores).items()})
        self.module.finish()


SERVICES: Mapping[str, Callable[[Path | None], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": Mlflow,
    "trackio": Trackio,
}


def open_trackers(folder: Path | None, names: Sequence[str]) -> list[Tracker]:
    """Open JSON lines if there is a folder, and the services with these names.

    Raises RequestError for a service that is unknown or not installed.
    """
    wrong = [name for name in names if name not in SERVICES]
    if wrong:
        raise RequestError(f"there is no tracker {', '.join(wrong)}; expected one of {', '.join(SERVICES)}")
    trackers = [SERVICES[name](folder) for name in dict.fromkeys(names)]
    if folder is not None:
        trackers.insert(0, JsonLines(folder))
    return trackers


def following(trackers: Sequence[Tracker], report: Report) -> Report:
    """Return a report for one job that logs each evaluation, and also calls `report`."""

    def log(prepared: Prepared, run: TrainingRun) -> None:
        report(prepared, run)
        if run.history and run.history[-1]["step"] == run.step:
            last = run.history[-1]
            values = {"loss": last["loss"], "score": last["score"]}
            if not prepared.fitted:
                values["rate"] = run.training.rate * run.factor(run.step - 1)
            for tracker in trackers:
                tracker.log(run.step, values)

    return log


def numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores that are numbers."""
    return {name: float(value) for name, value in scores.items() if isinstance(value, int | float)}


def _module(name: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RequestError(
            f"tracker {name} is not installed ({error}); run pip install 'softcue[track]'"
        ) from error
