"""softcue quickstart: the whole workflow on bundled data: train, compare, save, reload in a new process,
and answer a mixed batch.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softcue.api import train
from softcue.base import Base, open_base
from softcue.cli.show import check_out
from softcue.files import write_file
from softcue.readers import Data
from softcue.studies.cells import encoder_size, trained_sizes
from softcue.studies.results import check_results
from softcue.tasks import open_data
from softcue.training.progress import training_progress

SEED = 0
# the file that is written at the end, and its keys
TABLE, QUICKSTART_KEYS = "quickstart.json", ("rows", "answers", "seconds")
# full fine-tuning needs fewer epochs, and each takes longer; a probe is fitted; the others train 10 epochs at
# their own learning rate
SETTINGS: dict[str, dict[str, Any]] = {"full": {"epochs": 4, "rate": 2e-4}, "probe": {}}


@dataclass(frozen=True)
class Stage:
    """One of the help desk's four tasks and the method that it is shown with."""

    task: str
    method: str
    metric: str  # what the table shows
    request: dict[str, Any]  # an example for the mixed batch


STAGES = (
    Stage(
        "intent",
        "pasta",
        "accuracy",
        {"text": "I was charged twice for my subscription this month, can I have one of the payments back?"},
    ),
    Stage(
        "urgency",
        "apt",
        "pearson",
        {"text": "Nobody in our clinic can log in since this morning and patients are waiting."},
    ),
    Stage(
        "duplicates",
        "spt",
        "accuracy",
        {
            "text": "The app closes as soon as I open a report.",
            "text_pair": "Opening any report makes the program crash at once.",
        },
    ),
    Stage(
        "entities",
        "ptuning",
        "f1",
        {"text": "Maria Lopez still gets error E-4012 in Northwind Sync 3.2 since Monday."},
    ),
)
BASELINES = ("probe", "full")


def quickstart(
    out: Path,
    backbone: str = "minilm",
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> dict[str, Any]:
    """Train the four adapters and their baselines, save them, and answer a mixed batch in a new process.

    Returns {"rows": the table, "answers": the mixed batch's, "seconds"}; also written to out/quickstart.json.
    """
    began = time.monotonic()
    for stage in STAGES:
        check_out(out / stage.task)
    check_results(out, [TABLE], QUICKSTART_KEYS)
    base = open_base(backbone)
    say(
        f"one frozen encoder: {backbone}, "
        f"{sum(p.numel() for p in base.backbone.encoder.parameters()):,} parameters"
    )
    rows = []
    for stage in STAGES:
        data = helpdesk(stage.task)
        for method in (stage.method, *BASELINES):
            row, trained = run_stage(stage, data, method, base)
            if method == stage.method:
                trained.save(out / stage.task)
            rows.append(row)
            say(f"  {stage.task:<11} {method:<8} {stage.metric} {row['score']:.3f}  {row['seconds']:5.1f} s")
    say(table(rows))
    answers = answer_elsewhere(out, backbone)
    for stage, answer in zip(STAGES, answers, strict=True):
        told = " | ".join(" ".join(v) if isinstance(v, list) else v for v in stage.request.values())
        say(f"  {stage.task}: {told}\n    -> {json.dumps(without_scores(answer), ensure_ascii=False)}")
    result = {"rows": rows, "answers": answers, "seconds": time.monotonic() - began}
    write_file(out / TABLE, json.dumps(result, indent=2).encode())
    say(f"adapters in {out}/, done in {result['seconds']:.0f} s")
    return result


def helpdesk(task: str) -> Data:
    """Open one of the bundled help-desk sets: intent, urgency, duplicates or entities."""
    return open_data(f"helpdesk/{task}")


def run_stage(stage: Stage, data: Data, method: str, base: Base) -> tuple[dict[str, Any], Any]:
    """Train one method on one task; return a row of the table and what was trained."""
    began = time.monotonic()
    with training_progress() as report:
        trained = train(
            data,
            backbone=base,
            method=method,
            settings=SETTINGS.get(method, {"epochs": 10}),
            seed=SEED,
            report=report,
        )
    cue, head = trained_sizes(trained, base)
    return {
        "task": stage.task,
        "method": method,
        "metric": stage.metric,
        "score": float(trained.scores[stage.metric]),
        "parameters": cue,
        "share": cue / encoder_size(base),
        "kilobytes": (cue + head) * 4 / 1024,
        "seconds": time.monotonic() - began,
    }, trained


def table(rows: list[dict[str, Any]]) -> str:
    """Return the comparison as Markdown."""
    lines = ["| task | method | score | tuned parameters | share | KB on disk |", "|---|---|---|---|---|---|"]
    for row in rows:
        share = f"{row['share']:.3%}" if row["parameters"] else "head only"
        score, size = (
            f"{row['metric']} {row['score']:.3f}",
            f"{row['parameters']:,} | {share} | {row['kilobytes']:,.0f}",
        )
        lines.append(f"| {row['task']} | {row['method']} | {score} | {size} |")
    return "\n".join(lines)


ELSEWHERE = """
import json, sys
import softcue
job = json.load(sys.stdin)
predictor = softcue.Predictor(job["backbone"], job["adapters"])
print(json.dumps(predictor(job["requests"])))
"""


def answer_elsewhere(out: Path, backbone: str) -> list[dict[str, Any]]:
    """Load the saved adapters in a new process and answer one batch that mixes all four tasks."""
    adapters = {stage.task: str(out / stage.task) for stage in STAGES}
    requests = [{"adapter": stage.task, **stage.request} for stage in STAGES]
    job = json.dumps({"backbone": backbone, "adapters": adapters, "requests": requests})
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], input=job, text=True, stdout=subprocess.PIPE, check=True
    )
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def without_scores(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer without the list of all scores."""
    return {key: value for key, value in answer.items() if key not in ("scores", "tags")}
