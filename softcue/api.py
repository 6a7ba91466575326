"""The front door in Python: train on data given by name, and score an adapter on data given by name."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from softcue.adapter import Adapter
from softcue.adapter.header import TOKEN_LIMIT
from softcue.adapter.header_file import load_header
from softcue.answering.evaluation import Evaluation, decide, gold, judge, run
from softcue.answering.opening import open_for, open_predictor, refuse_reading
from softcue.answering.predict import check_requests, score_raw_text
from softcue.answering.served import check_unsure_below, reading_of, with_unsure_below
from softcue.base import Base, open_base
from softcue.errors import RequestError
from softcue.kinds import KINDS
from softcue.kinds.base import READS_WORDS
from softcue.options import check_whole
from softcue.readers import Data, Record
from softcue.readers.columns import Said
from softcue.readers.encoding import as_encoding
from softcue.readers.items import Reading, make_items
from softcue.readers.requests import read_requests
from softcue.scoring.metrics import OwnMetric, add_metric, scores
from softcue.scoring.report import doubts, worst_rows
from softcue.scoring.report import report as score_report
from softcue.studies.auto import choose_rate
from softcue.tasks import data_root, open_data
from softcue.training.baseline import say_of_linear
from softcue.training.checkpoint import Checkpoints, flat_values
from softcue.training.conditions import identity
from softcue.training.full import METHOD as FULL
from softcue.training.full import Checkpoint, train_full
from softcue.training.job import DEFAULT_LIMIT, Job, method_class
from softcue.training.jobs import Report, train_jobs
from softcue.training.parallel import leads, own_device, refuse_ranks
from softcue.training.settings import split_settings
from softcue.training.trackers import Tracker, following
from softcue.training.unlearnt import noticing

SEEDS = 2**63


def train(
    data: Any,
    *,
    backbone: str | Base = "minilm",
    method: str = "pasta",
    settings: Mapping[str, Any] | None = None,
    kind: str | None = None,
    columns: Said | None = None,
    encoding: str | None = None,
    root: str | Path | None = None,
    rows: int | None = None,
    seed: int = 0,
    pooling: str | None = None,
    limit: int = DEFAULT_LIMIT,
    precision: str = "auto",
    device: str = "cpu",
    auto: float | None = None,
    metric: str | OwnMetric | None = None,
    unsure_below: float | None = None,
    report: Report = lambda prepared, run: None,
    say: Callable[[str], None] | None = None,
    checkpoints: Checkpoints | None = None,
    trackers: Sequence[Tracker] = (),
) -> Adapter | Checkpoint:
    """Train one adapter; `.scores` has its scores and `.save(folder)` writes it.

    - data: a path, a benchmark's name or hf:ID; a DataFrame, a Dataset, a list of dictionaries, (texts,
      labels), or a dictionary of such tables by split; or the result of `open_data`.
    - method: "full" returns a whole Checkpoint.
    - settings: fields of the method's config and of `Training`.
    - columns, encoding: how to read the data (docs/data.md).
    - rows: the most training rows, drawn by the seed. limit: the most tokens of an example.
    - auto: minutes of a search for the learning rate, before the training.
    - metric: chooses the best step; a name, or a function of true and predicted answers where more is better.
      None: the data's own.
    - unsure_below: an answer with a lower probability is unsure; saved in the adapter.
    - report: is called after every step.
    - say: is called with warnings about the data, and if a linear head is as good (None: it is not fitted).
    - checkpoints: where a killed run can be resumed. trackers: log the training (docs/training.md).

    Raises SoftcueError.
    """
    seed = check_whole("seed", seed, 0, SEEDS - 1)
    limit = check_whole("limit", limit, 1, TOKEN_LIMIT)
    if method != FULL:
        refuse_ranks(f"method {method} trains", "give method full, or run it without torchrun")
    own, training = split_settings(None if method == FULL else method_class(method), settings or {})
    if isinstance(data, Data):
        refuse_reading(kind=kind, columns=columns, encoding=encoding, root=root, rows=rows)
    else:
        cap = None if rows is None else {"train": rows}
        data = open_data(
            data,
            kind=kind,
            columns=columns,
            encoding=encoding,
            data_root=data_root(root),
            seed=seed,
            limit=cap,
        )
    if metric is not None:
        data = selecting_by(data, metric)
    check_unsure_below(unsure_below, data.kind)
    tell = say or (lambda line: None)
    for warning in data.warnings:
        tell(f"warning: {warning}")
    base = backbone if isinstance(backbone, Base) else open_base(backbone, precision, own_device(device))
    job = Job(data, method, own, training, seed, pooling, limit)
    if auto is not None:
        if checkpoints is not None:
            raise RequestError(
                "auto came with checkpoints; a search by the clock may end otherwise when it is repeated: "
                "give its rate instead"
            )
        job = choose_rate(job, base, auto, report, tell)
    config = (
        {
            "data": data.name,
            "backbone": base.backbone.name,
            **dict(flat_values({"job": identity([job], base)[0]})),
        }
        if trackers
        else {}
    )
    for tracker in trackers:
        tracker.start(config)
    follow = noticing(tell, following(trackers, report))
    trained = (
        train_full(job, base, follow, checkpoints)
        if method == FULL
        else train_jobs([job], base, follow, checkpoints=checkpoints)[0]
    )
    if isinstance(trained, Checkpoint):
        trained = replace(trained, adapter=with_unsure_below(trained.adapter, unsure_below))
    else:
        trained = with_unsure_below(trained, unsure_below)
    for tracker in trackers:
        tracker.finish(trained.scores)
    if say is not None and leads():
        say_of_linear(job, base, trained.scores["selection"], say)
    return trained


def evaluate(
    adapter: str | Path | Adapter,
    data: Any,
    *,
    split: str = "test",
    backbone: str | Base | None = None,
    root: str | Path | None = None,
    columns: Said | None = None,
    encoding: str | None = None,
    precision: str = "auto",
    device: str = "cpu",
    unsure_below: float | None = None,
) -> Evaluation:
    """Score an adapter on one split.

    - data: as for `train`. A single file or table is split by the adapter's seed, as in training;
      {"test": table} is scored whole.
    - columns: None takes those that the adapter was trained on.
    - backbone: None loads the encoder that the adapter names.
    - unsure_below: an answer with a lower probability is unsure. None: the adapter's own.

    Raises SoftcueError.
    """
    predictor, name = open_predictor(adapter, backbone, precision, device)
    loaded, text = predictor.adapters[name], predictor.base.text
    data = open_for(loaded, data, (split,), columns, root, encoding)
    records, reading = data.splits[split], reading_of(loaded)
    items = make_items(records, text, reading)
    answers = run(predictor.model, items, [0] * len(items))
    predicted = [decide(answer, reading) for answer in answers]
    truth = [gold(record, loaded.kind) for record in records]
    kind = KINDS[loaded.kind]
    chances = [answer.tolist() for answer in answers] if kind.calibrated else None
    report = score_report(loaded.kind, truth, predicted, chances, labels=loaded.labels)
    below = with_unsure_below(loaded, unsure_below).unsure_below
    if chances is not None and below:
        right = [a == b for a, b in zip(truth, predicted, strict=True)]
        report["unsure"] = doubts(right, [max(row) for row in chances], below)
    return Evaluation(
        scores=judge(answers, records, reading, data),
        report=report,
        rows=len(records),
        truncated=sum(item.dropped > 0 for item in items),
        split=split,
        subset=data.subset,
        warnings=(*data.warnings, *_unknown_labels(truth, reading)),
        worst=tuple(
            {
                **asked(records[row]),
                "truth": told_answer(truth[row]),
                "answer": told_answer(predicted[row]),
                "how_wrong": size,
            }
            for row, size in worst_rows(truth, predicted, chances)
        ),
        raw_text=score_raw_text(predictor, name, records) if kind.reads == READS_WORDS else None,
    )


def predict(
    adapter: str | Path | Adapter,
    requests: Any,
    *,
    backbone: str | Base | None = None,
    precision: str = "auto",
    device: str = "cpu",
    unsure_below: float | None = None,
) -> list[dict[str, Any]]:
    """Answer requests with one adapter, in order.

    Requests are as Predictor takes them. One that names an adapter itself ("adapter") means that one, as
    everywhere, and is refused where it is another. unsure_below: chance below which an answer is called
    unsure; None: the one that was saved with the adapter.

    Raises SoftcueError.
    """
    requests = check_requests(requests)
    predictor, name = open_predictor(adapter, backbone, precision, device)
    predictor.adapters[name] = with_unsure_below(predictor.adapters[name], unsure_below)
    return predictor(requests, adapter=name)


def questions(
    adapter: str | Path,
    texts: Sequence[str],
    file: Path | None,
    columns: Said | None = None,
    encoding: str | None = None,
) -> list[dict[str, Any]]:
    """Make requests of the command line's input: one text, a pair of texts, or a file.

    columns: the file's; without them its rows go on as they are, for the adapter knows its own. encoding: the
    file's; None is the one that the adapter was trained with, where the file is not plainly UTF-8.
    """
    if bool(texts) == (file is not None):
        raise RequestError("give a text (two for a pair), or --file")
    if file is not None:
        remembered = load_header(adapter).encoding if encoding is None else None
        return read_requests(file, columns, as_encoding(encoding, remembered))
    if len(texts) > 2:
        raise RequestError(
            f"{len(texts)} texts came; expected one, or two for an adapter that reads pairs (quote them)"
        )
    return [dict(zip(("text", "text_pair"), texts, strict=False))]


def selecting_by(data: Data, metric: str | OwnMetric) -> Data:
    """Return the data set with the metric that selects. Raises RequestError where it cannot be computed."""
    name = add_metric(metric) if callable(metric) else metric
    for records in data.splits.values():  # told now, not after the first epoch
        truth = [gold(record, data.kind) for record in records]
        groups, extra = [record.group for record in records], [record.extra for record in records]
        if truth:
            scores(data.kind, [name], truth, truth, groups, data.positive, extra=extra)
    return replace(data, metrics=(name, *(other for other in data.metrics if other != name)))


def asked(record: Record) -> dict[str, Any]:
    """Return what a record asks, ready for JSON, with the place that it came from."""
    texts = {"text": record.text, "text_pair": record.pair}
    lists = {"choices": list(record.choices), "tokens": list(record.tokens)}
    return {"where": record.where, **{name: value for name, value in {**texts, **lists}.items() if value}}


def told_answer(answer: Any) -> Any:
    """Return an answer as JSON holds it: a set of labels in order."""
    return sorted(answer) if isinstance(answer, frozenset) else answer


def _unknown_labels(truth: Sequence[Any], reading: Reading) -> Iterator[str]:
    """Yield a warning of labels that the adapter was not trained on."""
    if not reading.labels:
        return
    found = Counter(label for gold in truth for label in KINDS[reading.kind].names_in(gold))
    known = set(reading.labels)
    foreign = {label: count for label, count in found.items() if label not in known}
    if foreign:
        names = ", ".join(sorted(foreign)[:10]) + (", ..." if len(foreign) > 10 else "")
        yield (
            f"{sum(foreign.values()):,} rows have labels that the adapter does not know ({names}); they "
            "are counted as wrong"
        )
