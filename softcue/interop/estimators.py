"""scikit-learn estimators: a classifier of texts and a tagger of token lists."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from softcue.adapter import Adapter
from softcue.answering.evaluation import run
from softcue.answering.predict import Predictor
from softcue.answering.served import question_of
from softcue.base import Base, open_base
from softcue.cues import Cue
from softcue.errors import DataError, RequestError, short
from softcue.kinds.entities import to_iob2
from softcue.options import check_whole
from softcue.readers import Data, Problems, RawRow, Shape
from softcue.readers.parse import Parser
from softcue.readers.splits import Selection, cut
from softcue.scoring.metrics import metrics_of, scores
from softcue.training.conditions import identity
from softcue.training.job import DEFAULT_LIMIT, Job, method_class
from softcue.training.jobs import train_jobs
from softcue.training.settings import own_settings, split_settings

SKLEARN_SEEDS = 2**32  # scikit-learn's own range
FITTED = "fit"  # what the data and the adapter of an estimator are called
# adapters that are trained already, by the key of their job
_AHEAD: ContextVar[Mapping[str, Adapter] | None] = ContextVar("ahead", default=None)


class TextEstimator(BaseEstimator, ABC):
    """What the classifier and the tagger share: parameters, the job that they make, and its adapter."""

    kind: str
    adapter_: Adapter

    def __init__(
        self,
        backbone: str | Base = "minilm",
        *,
        method: str = "pasta",
        pooling: str | None = None,
        limit: int = DEFAULT_LIMIT,
        precision: str = "auto",
        device: str = "cpu",
        random_state: int = 0,
        **settings: Any,
    ) -> None:
        """Keep the parameters, which are those of softcue.train.

        settings: fields of the method's config and of Training, each a parameter of its own, so that a grid
        may vary `rate` or `length`. Raises SettingsError for one that neither any method nor training has.
        """
        self.backbone = backbone
        self.method = method
        self.pooling = pooling
        self.limit = limit
        self.precision = precision
        self.device = device
        self.random_state = random_state
        self.set_params(**settings)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name, the settings among them."""
        return {**super().get_params(deep), **self._settings()}

    def set_params(self, **params: Any) -> "TextEstimator":
        """Set parameters, settings among them, and return the estimator.

        Raises SettingsError for a name that is neither.
        """
        own_settings(Cue.registry, set(params) - set(self._get_param_names()))
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def _settings(self) -> dict[str, Any]:
        """Return the parameters that are no argument of the constructor by name."""
        named = self._get_param_names()
        others = {name: value for name, value in vars(self).items() if name not in named}
        return {n: value for n, value in others.items() if not (n.startswith("_") or n.endswith("_"))}

    def fit(self, X: Any, y: Any) -> "TextEstimator":
        """Train an adapter, which is then `adapter_`, and return the estimator.

        A tenth of the rows, drawn by random_state, selects the step that is kept. Raises SoftcueError.
        """
        check_consistent_length(X, y)
        job, base = self.job_of(self.data_of(self.requests_of(X), y)), self.opened_base()
        ahead = _AHEAD.get()
        adapter = ahead.get(job_key(job, base)) if ahead else None
        self.adapter_ = adapter or train_jobs([job], base)[0]
        self._note(y)
        return self

    def opened_base(self) -> Base:
        """Return the backbone; one that was named is opened once for estimators that follow each other."""
        if isinstance(self.backbone, Base):
            return self.backbone
        return _opened(self.backbone, self.precision, self.device)

    def job_of(self, data: Data) -> Job:
        """Return what fit trains."""
        seed = check_whole("random_state", self.random_state, 0, SKLEARN_SEEDS - 1)
        settings = self._settings()
        if isinstance(settings.get("class_weight"), Mapping):  # labels may be numbers here
            settings["class_weight"] = {str(k): weight for k, weight in settings["class_weight"].items()}
        own, training = split_settings(method_class(self.method), settings)
        train, tenth = cut(data.splits["train"], seed, "what fit was given")
        measured = f"selected on a tenth of what fit was given (seed {seed}), reported on nothing"
        selection = Selection(train, tenth, [], measured, aside=True)
        return Job(data, self.method, own, training, seed, self.pooling, self.limit, selection=selection)

    def data_of(self, requests: Sequence[Mapping[str, Any]], y: Any) -> Data:
        """Return requests and their answers as a data set. Raises DataError that names wrong rows."""
        rows = [{**row, **answer} for row, answer in zip(requests, self._answers(y), strict=True)]
        parser = Parser(Shape(kind=self.kind), Problems())
        records = parser.read(enumerate(rows), "row")
        parser.problems.check("X and y")
        labels = self._labels(y)
        metrics = metrics_of(self.kind)
        return Data(self.kind, {"train": records}, labels, bool(parser.paired), FITTED, metrics)

    @abstractmethod
    def requests_of(self, X: Any) -> list[dict[str, Any]]:
        """Return what is to be answered, one request for each row of X."""

    def check_answers(self, y: Any) -> None:
        """Refuse what could be no answers, before rows are looked at one by one. Raises DataError."""

    @abstractmethod
    def _answers(self, y: Any) -> list[RawRow]:
        """Return what the rows of y say, under the names that a file has for it."""

    @abstractmethod
    def _labels(self, y: Any) -> tuple[str, ...]:
        """Return the labels among the answers, in order."""

    @abstractmethod
    def _note(self, y: Any) -> None:
        """Set the fitted attributes that depend on y."""

    def _chances(self, X: Any) -> list[np.ndarray]:
        """Return the probabilities of the labels for each row: (C,), or (words, C) for tags."""
        check_is_fitted(self, "adapter_")
        predictor = Predictor(self.opened_base(), {FITTED: self.adapter_})
        items = []
        for number, request in enumerate(self.requests_of(X)):
            try:
                items.append(question_of(request, self.adapter_, predictor.base.text).item)
            except RequestError as error:
                raise DataError(f"row {number} of X {error}") from error
        answers = run(predictor.model, items, [predictor.seat[FITTED]] * len(items))
        return [answer[..., : len(self.adapter_.labels)].numpy() for answer in answers]

    def __sklearn_tags__(self) -> Any:
        """Say that texts are read, in one dimension."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles hold: of the adapter, the bytes of its two files."""
        state = dict(super().__getstate__())
        if "adapter_" in state:
            state["adapter_"] = state["adapter_"].to_files("a pickled estimator")
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Take over what __getstate__ returned, and check the adapter as if it came from a folder."""
        state = dict(state)
        if "adapter_" in state:
            state["adapter_"] = Adapter.from_files(state["adapter_"], "a pickled estimator")
        super().__setstate__(state)


class SoftcueClassifier(ClassifierMixin, TextEstimator):
    """Classifies texts, or pairs of texts, by an adapter over a frozen encoder."""

    kind = "classify"
    classes_: np.ndarray

    def requests_of(self, X: Any) -> list[dict[str, Any]]:
        """Return a request for each text, or for each pair of texts, of X."""
        rows = np.asarray(X, dtype=object)
        if rows.ndim not in (1, 2):
            raise DataError(f"X is {short(X)}; expected a list of texts, or of pairs of texts")
        found = []
        for number, row in enumerate(rows.tolist()):
            texts = tuple(row) if isinstance(row, list | tuple) else (row,)
            if not (len(texts) in (1, 2) and all(isinstance(text, str) for text in texts)):
                raise DataError(f"row {number} of X is {short(row)}; expected a text, or two for a pair")
            found.append(dict(zip(("text", "text_pair"), texts, strict=False)))
        return found

    def check_answers(self, y: Any) -> None:
        """Refuse rows with several labels each. Raises DataError."""
        if any(isinstance(row, list | tuple | set | frozenset) or np.size(row) > 1 for row in y):
            raise DataError(
                "y gives a row several labels, and a classifier here gives one; train multilabel data with "
                "softcue.train (rows as in {'text': .., 'labels': [..]}), or give one label a row"
            )

    def _answers(self, y: Any) -> list[RawRow]:
        self.check_answers(y)
        check_classification_targets(y)
        return [{"label": str(label)} for label in column_or_1d(y).tolist()]

    def _labels(self, y: Any) -> tuple[str, ...]:
        return tuple(map(str, np.unique(column_or_1d(y)).tolist()))

    def _note(self, y: Any) -> None:
        self.classes_ = np.unique(column_or_1d(y))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each of `classes_` for each row: (rows, C) float32."""
        chances = self._chances(X)
        return np.stack(chances) if chances else np.empty((0, len(self.classes_)), np.float32)

    def predict(self, X: Any) -> np.ndarray:
        """Return the label of each row: (rows,)."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]


class SoftcueTagger(TextEstimator):
    """Tags the words of token lists by an adapter over a frozen encoder."""

    kind = "tag"
    classes_: np.ndarray

    def requests_of(self, X: Any) -> list[dict[str, Any]]:
        """Return a request for each list of tokens of X."""
        return [{"tokens": _as_list(tokens)} for tokens in X]

    def _answers(self, y: Any) -> list[RawRow]:
        return [{"tags": _as_list(tags)} for tags in y]

    def _labels(self, y: Any) -> tuple[str, ...]:
        return ("O", *sorted({tag for tags in y for tag in to_iob2(_as_list(tags))} - {"O"}))

    def _note(self, y: Any) -> None:
        self.classes_ = np.array(self.adapter_.labels)

    def predict_proba(self, X: Any) -> list[np.ndarray]:
        """Return the probability of each of `classes_` for the words of each row: (words, C) float32."""
        return self._chances(X)

    def predict(self, X: Any) -> list[list[str]]:
        """Return the tags of each row, one for each token, in IOB2."""
        best = [chances.argmax(1) for chances in self.predict_proba(X)]
        return [list(to_iob2(self.classes_[tags].tolist())) for tags in best]

    def score(self, X: Any, y: Any) -> float:
        """Return F1 over entities."""
        check_consistent_length(X, y)
        gold = [record.tags for record in self.data_of(self.requests_of(X), y).splits["train"]]
        return scores("tag", ("f1",), gold, self.predict(X))["f1"]


def job_key(job: Job, base: Base) -> str:
    """Return what two jobs have in common that end with the same parameters."""
    return json.dumps(identity([job], base)[0], sort_keys=True)


@contextmanager
def trained_ahead(adapters: Mapping[str, Adapter]) -> Iterator[None]:
    """Let fit take an adapter of these, by the key of its job, where it would train it."""
    before = _AHEAD.set(adapters)
    try:
        yield
    finally:
        _AHEAD.reset(before)


@lru_cache(maxsize=1)
def _opened(name: str, precision: str, device: str) -> Base:
    return open_base(name, precision, device)


def _as_list(words: Any) -> Any:
    """Return the words of one row as a list; what is no row of words is refused by who reads it."""
    if isinstance(words, np.ndarray):
        return words.tolist()
    return list(words) if isinstance(words, tuple) else words
