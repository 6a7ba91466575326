"""Metrics: the benchmarks' official scores on gold and predicted answers."""

import math
import re
import string
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from softcue.errors import DataError, SettingsError, short
from softcue.kinds import KINDS


@dataclass(frozen=True)
class Answers:
    """Gold and predicted answers of one split, and what some metrics need beside them."""

    kind: str
    gold: Sequence[Any]  # labels, numbers, indices of choices, or tag sequences
    predicted: Sequence[Any]
    groups: Sequence[str | None] | None = None  # the question that each row belongs to
    positive: str | None = None  # the label that F1 is measured on
    # how sure the model is of the positive label, for metrics that pick one row of each group
    confidence: Sequence[float] | None = None
    extra: Sequence[Mapping[str, Any]] | None = None  # Record.extra

    def grouped(self) -> list[list[int]]:
        """Return the rows of each question, or raise RequestError if a row has no question."""
        if self.groups is None or None in self.groups:
            raise DataError(
                "a metric by question needs the question (group) of every row; use the benchmark's name for "
                "the data"
            )
        rows: defaultdict[str | None, list[int]] = defaultdict(list)
        for row, group in enumerate(self.groups):
            rows[group].append(row)
        return list(rows.values())


def accuracy(answers: Answers) -> float:
    """Return the share of rows that are answered right."""
    return sum(a == b for a, b in zip(answers.gold, answers.predicted, strict=True)) / len(answers.gold)


def macro_f1(answers: Answers) -> float:
    """Return the mean F1 over all labels, gold or predicted (CommitmentBank's second score)."""
    counts = KINDS[answers.kind].by_label(answers.gold, answers.predicted)
    if counts is not None:
        return sum(precision_recall_f1(*count)[2] for count in counts.values()) / max(1, len(counts))
    from sklearn.metrics import f1_score

    return float(f1_score(answers.gold, answers.predicted, average="macro", zero_division=0))


def matthews(answers: Answers) -> float:
    """Return the Matthews correlation (CoLA's score), or 0 if either side is constant."""
    if len(set(answers.gold)) < 2 or len(set(answers.predicted)) < 2:
        return 0.0
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(answers.gold, answers.predicted))


def pearson(answers: Answers) -> float:
    """Return the Pearson correlation, or 0 if either side is constant."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, answers)


def spearman(answers: Answers) -> float:
    """Return the Spearman correlation, or 0 if either side is constant."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, answers)


def _correlation(measure: Callable[..., Any], answers: Answers) -> float:
    if len(set(answers.gold)) < 2 or len(set(answers.predicted)) < 2:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns about nearly constant predictions
        value = float(measure(answers.gold, answers.predicted)[0])
    return value if math.isfinite(value) else 0.0


def f1(answers: Answers) -> float:
    """Return micro-F1 over entities, for tags, or labels of sets, or else F1 of the positive label."""
    return precision_recall_f1(*_counts(answers))[2]


def precision(answers: Answers) -> float:
    """Return the share of predicted entities, or of rows predicted as positive, that are right."""
    return precision_recall_f1(*_counts(answers))[0]


def recall(answers: Answers) -> float:
    """Return the share of gold entities, or of rows with the positive label, that are found."""
    return precision_recall_f1(*_counts(answers))[1]


def _counts(answers: Answers) -> tuple[int, int, int]:
    """Return how many entities, or rows of the positive label, are right, predicted and gold."""
    counts = KINDS[answers.kind].by_label(answers.gold, answers.predicted)
    if counts is not None:
        right = sum(count for count, _, _ in counts.values())
        found = sum(count for _, count, _ in counts.values())
        wanted = sum(count for _, _, count in counts.values())
        return right, found, wanted
    if answers.positive is None:
        raise DataError(
            "F1 needs to know which label is the positive one; use macro_f1, or a benchmark that names it"
        )
    gold = [label == answers.positive for label in answers.gold]
    predicted = [label == answers.positive for label in answers.predicted]
    right = sum(a and b for a, b in zip(gold, predicted, strict=True))
    return right, sum(predicted), sum(gold)


def precision_recall_f1(right: int, found: int, wanted: int) -> tuple[float, float, float]:
    """Return precision, recall and F1, each 0 where it would divide by zero."""
    of_found = right / found if found else 0.0
    of_wanted = right / wanted if wanted else 0.0
    of_both = 2 * right / (found + wanted) if right else 0.0
    return of_found, of_wanted, of_both


def group_exact(answers: Answers) -> float:
    """Return the share of questions whose answers are all judged right (MultiRC's EM)."""
    groups = answers.grouped()
    right = sum(all(answers.gold[row] == answers.predicted[row] for row in rows) for rows in groups)
    return right / len(groups)


def record_em(answers: Answers) -> float:
    """Return the share of queries whose chosen entity is one of the answers, normalised (ReCoRD)."""
    return _record(answers, lambda chosen, answer: float(_normal(chosen) == _normal(answer)))


def record_f1(answers: Answers) -> float:
    """Return the mean over queries of the chosen entity's best word F1 with an answer (ReCoRD)."""
    return _record(answers, _word_f1)


def _record(answers: Answers, measure: Callable[[str, str], float]) -> float:
    """Measure the entity of each query that the model is surest of against the query's answers."""
    extra = answers.extra
    if extra is None or any("answers" not in row or "entity" not in row for row in extra):
        raise DataError(
            "ReCoRD's scores need the entity and the answers of every row; use superglue/record for the data"
        )
    sure = answers.confidence or [float(label == answers.positive) for label in answers.predicted]
    total = 0.0
    groups = answers.grouped()
    for rows in groups:
        chosen = extra[max(rows, key=lambda row: sure[row])]
        total += max((measure(chosen["entity"], answer) for answer in chosen["answers"]), default=0.0)
    return total / len(groups)


def _normal(text: str) -> str:
    """Normalise a text as SQuAD does: lower case; no punctuation, articles or extra blanks."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def _word_f1(chosen: str, answer: str) -> float:
    found = _normal(chosen).split()
    wanted = _normal(answer).split()
    common = Counter(found) & Counter(wanted)
    return precision_recall_f1(common.total(), len(found), len(wanted))[2]


METRICS: dict[str, Callable[[Answers], float]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
    "f1": f1,
    "precision": precision,
    "recall": recall,
    "micro_f1": f1,  # its name where rows have several labels
    "exact_match": accuracy,  # likewise: of whole sets
    "f1a": f1,  # MultiRC's name for F1 over all answers
    "em": group_exact,
    "record_f1": record_f1,
    "record_em": record_em,
}


OwnMetric = Callable[[Sequence[Any], Sequence[Any]], float]  # (truth, predicted), higher is better
_own: dict[str, OwnMetric] = {}  # by the function's name


def metrics_of(kind: str) -> tuple[str, ...]:
    """Return the names of the metrics of a kind of data, the one that selects first."""
    return KINDS[kind].metrics


def scores(
    kind: str,
    names: Sequence[str],
    gold: Sequence[Any],
    predicted: Sequence[Any],
    groups: Sequence[str | None] | None = None,
    positive: str | None = None,
    confidence: Sequence[float] | None = None,
    extra: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, float]:
    """Return the named metrics of some answers; the arguments are those of Answers.

    Raises RequestError if a metric is unknown, or needs what the answers do not have.
    """
    unknown = [name for name in names if name not in METRICS and name not in _own]
    if unknown:
        raise DataError(f"metric {unknown[0]!r} is unknown; expected one of {', '.join([*METRICS, *_own])}")
    if not len(gold) or len(gold) != len(predicted):
        raise DataError(
            f"{len(predicted)} answers for {len(gold)} rows; expected one for each of at least one row"
        )
    answers = Answers(kind, gold, predicted, groups, positive, confidence, extra)
    return {name: METRICS[name](answers) if name in METRICS else _measure(name, answers) for name in names}


def add_metric(function: OwnMetric) -> str:
    """Let a function of gold and predicted answers be a metric, and return its name.

    Raises SettingsError for the name of one of softcue's own.
    """
    name = function.__name__
    if name in METRICS:
        raise SettingsError(f"metric {name} is one of softcue's own; give your function another name")
    _own[name] = function
    return name


def _measure(name: str, answers: Answers) -> float:
    value = _own[name](answers.gold, answers.predicted)
    if not isinstance(value, Real) or not math.isfinite(value):
        raise DataError(f"metric {name} gave {short(value)}; expected a finite number")
    return float(value)
