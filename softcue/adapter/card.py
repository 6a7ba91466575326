"""Card: the README.md of an adapter in a repository: its data, its scores, the command of its training."""

import hashlib
import json
import math
import os
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from softcue.adapter.header import OWN_ENCODER
from softcue.cues import Cue
from softcue.encoder.load import HUB_ID
from softcue.errors import one_line
from softcue.kinds import KINDS
from softcue.kinds.base import READS_CHOICES, READS_TEXTS, READS_WORDS
from softcue.scoring.metrics import METRICS
from softcue.tasks import Task, find_task

CARD = "README.md"
ALIASES = {
    "minilm": "sentence-transformers/all-MiniLM-L6-v2"
}  # of backbones that the hub has by another name
# what an adapter reads -> the hub's name of such a task
PIPELINES = {READS_WORDS: "token-classification", READS_CHOICES: "multiple-choice"}
# our names of metrics -> the hub's
HUB_METRICS = {
    "matthews": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    "macro_f1": "f1",
}
NOT_METRICS = ("selection", "selection_step", "truncated")  # of an adapter's scores
SHOWN_LABELS = 50
SIGNED = "<!-- written by softcue, sha256 of all above: "  # a card that somebody edited is kept


def card_of(adapter: Any, repository: str | None = None) -> bytes:
    """Return an adapter's card. repository: OWNER/NAME, None where it has none yet."""
    text = "\n".join(["---", _front(adapter), "---", "", *_body(adapter, repository), ""])
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{text}{SIGNED}{digest} -->\n".encode()


def is_own_card(data: bytes) -> bool:
    """Say whether a card is as card_of wrote it, of whatever adapter."""
    text, signed, end = data.rpartition(SIGNED.encode())
    return bool(signed) and end == f"{hashlib.sha256(text).hexdigest()} -->\n".encode()


def training_command(adapter: Any) -> str:
    """Return the command that trains an adapter again, as far as its header knows it.

    Every setting is given, so that presets that change later change nothing. Capital words stand for what
    others do not have: a folder of this machine, a metric that is a function.
    """
    given = {**asdict(adapter.config), **adapter.training}
    settings = [f"{name}={_toml(value)}" for name, value in given.items() if value is not None]
    data = adapter.task or "DATA"
    if _benchmark(data) is None and find_task(data) is not None:
        data = f"./{data}"  # a folder; the name alone would mean the benchmark
    words = ["softcue", "train", data, "--method", _method(adapter)]
    words += ["--backbone", public_backbone(adapter) or "BACKBONE", "--kind", adapter.kind]
    words += ["--seed", str(adapter.seed), "--pooling", adapter.pooling, "--limit", str(adapter.limit)]
    words += [word for name, value in _said(adapter) for word in (f"--{name.replace('_', '-')}", value)]
    for one in settings:
        words += ["--set", one]
    return shlex.join([*words, "--out", "adapter"])


def _said(adapter: Any) -> Iterator[tuple[str, str]]:
    """Yield the flags that say how the data were read, cut and scored, with their values."""
    yield from adapter.columns.items()
    if adapter.encoding is not None:
        yield "encoding", adapter.encoding
    if adapter.rows is not None:
        yield "rows", str(adapter.rows)
    if adapter.metric is not None:
        yield "metric", adapter.metric if adapter.metric in METRICS else "METRIC"
    if adapter.precision is not None:
        yield "precision", adapter.precision
    if adapter.unsure_below:
        yield "unsure_below", f"{adapter.unsure_below:g}"


def public_backbone(adapter: Any) -> str | None:
    """Return the name of an adapter's backbone where it is not a folder of this machine, else None."""
    name = adapter.backbone
    if name in ALIASES:
        return str(name)
    is_name = HUB_ID.fullmatch(name) is not None and not os.path.exists(name)
    return str(name) if is_name and name != OWN_ENCODER else None


def _method(adapter: Any) -> str:
    return str(adapter.method if adapter.tuned == "cue" else adapter.tuned)


def _titled(adapter: Any) -> str:
    """Return the method's name, with its grade where it is no faithful copy."""
    grade = Cue.registry[adapter.method].grade
    return f"{_method(adapter)} ({grade})" if grade else _method(adapter)


def _data(adapter: Any) -> str:
    return one_line(adapter.task) or "unknown data"


def _toml(value: Any) -> str:
    """Return a setting's value as `--set` reads it; a plain word needs no quotes."""
    plain = isinstance(value, str) and value.replace("_", "").isalnum() and not value[:1].isdigit()
    if plain and value not in ("true", "false", "inf", "nan"):
        return str(value)
    return json.dumps(value)  # numbers, strings and lists are the same in TOML


def _metrics(adapter: Any) -> dict[str, float]:
    """Return the scores that are finite numbers and metrics."""
    return {
        name: float(value)
        for name, value in adapter.scores.items()
        if name not in NOT_METRICS and isinstance(value, int | float) and math.isfinite(value)
    }


def _dataset(adapter: Any) -> str | None:
    """Return the hub's name of the adapter's data set, None where it has none."""
    if adapter.task.startswith("hf:"):
        return str(adapter.task[3:].partition(":")[0])
    task = _benchmark(adapter.task)
    return task.hub.identity if task is not None and task.hub is not None else None


def _benchmark(name: str) -> Task | None:
    """Return the benchmark that a header means; a folder may be called by a part of its name."""
    task = find_task(name)
    return task if task is not None and task.name == name else None


def _front(adapter: Any) -> str:
    """Return the card's front matter."""
    from huggingface_hub import EvalResult, ModelCardData

    metrics, dataset, backbone = _metrics(adapter), _dataset(adapter), public_backbone(adapter)
    pipeline = PIPELINES.get(KINDS[adapter.kind].reads, "text-classification")
    results = [
        EvalResult(
            task_type=pipeline,
            dataset_type=dataset or _data(adapter),
            dataset_name=_data(adapter),
            metric_type=HUB_METRICS.get(name, name),
            metric_value=value,
            metric_name=f"{name} ({_measured(adapter)})",
        )
        for name, value in metrics.items()
    ]
    grade = Cue.registry[adapter.method].grade
    data = ModelCardData(
        base_model=ALIASES.get(backbone, backbone) if backbone else None,
        library_name="softcue",
        pipeline_tag=pipeline,
        tags=["softcue", "adapter", _method(adapter), adapter.kind, *(["reconstruction"] if grade else [])],
        datasets=[dataset] if dataset else None,
        metrics=list(dict.fromkeys(HUB_METRICS.get(name, name) for name in metrics)) or None,
        model_name=f"{_titled(adapter)} on {_data(adapter)}",
        eval_results=results or None,
    )
    return data.to_yaml().rstrip("\n")


def _measured(adapter: Any) -> str:
    """Return how the scores were measured, and on what part of a benchmark."""
    return one_line(adapter.measured) + (f"; {adapter.subset}" if adapter.subset else "")


def _body(adapter: Any, repository: str | None) -> Iterator[str]:
    """Yield the lines below the front matter."""
    backbone, where = public_backbone(adapter), f"hf:{repository}" if repository else "FOLDER"
    encoder = f"`{ALIASES.get(backbone, backbone)}`" if backbone else "an encoder that is not public by name"
    if adapter.tuned != "cue":
        encoder = "its own encoder, which lies beside it"
    yield f"# {_titled(adapter)} on {_data(adapter)}"
    yield ""
    yield f"An adapter of softcue for {encoder} (fingerprint `{adapter.fingerprint[:12]}`)."
    yield f"It reads {_reads(adapter)}, at most {adapter.limit} tokens, and answers {adapter.kind}."
    grade = Cue.registry[adapter.method].grade
    if grade:
        yield ""
        yield f"Its method is {grade}: scores are this code's, and no claim about the paper's method."
    yield from ("", "## Use", "", f"    {_use(adapter, where)}", "")
    yield from _scores(adapter)
    yield from ("", "## Training", "", f"    {training_command(adapter)}", "")
    yield (
        "Capital words stand for what is not recorded. A data set that is no benchmark and not of the hub is "
        "a folder of that name, under `--data-root`, or a file or table of its name. A sweep and `compare` "
        "select on a tenth of train, as the scores then say; `softcue train` selects on dev where there is "
        "one."
    )
    if adapter.labels:
        yield from (
            "",
            "## Labels",
            "",
            *(f"    {json.dumps(label)}" for label in adapter.labels[:SHOWN_LABELS]),
        )
        if len(adapter.labels) > SHOWN_LABELS:
            yield f"\nand {len(adapter.labels) - SHOWN_LABELS:,} more."


def _use(adapter: Any, where: str) -> str:
    """Return a command that answers what the adapter reads."""
    asked = '"a text" "another"' if adapter.pair else '"a text"'
    if KINDS[adapter.kind].reads == READS_CHOICES:
        asked = "--file QUESTIONS.jsonl"
    known = adapter.tuned != "cue" or public_backbone(adapter)
    return f"softcue predict {where} {asked}" + ("" if known else " --backbone BACKBONE")


def _reads(adapter: Any) -> str:
    reads = KINDS[adapter.kind].reads
    return ("pairs of texts" if adapter.pair else "single texts") if reads == READS_TEXTS else reads


def _scores(adapter: Any) -> Iterator[str]:
    yield "## Scores"
    yield ""
    metrics = _metrics(adapter)
    if not metrics:
        yield f"None were measured ({_measured(adapter)})."
        return
    yield f"On {_data(adapter)}: {_measured(adapter)}. Seed {adapter.seed}."
    yield from ("", "| metric | value |", "|---|---|")
    yield from (f"| {name} | {value:.4f} |" for name, value in metrics.items())
