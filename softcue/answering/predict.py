"""Predictor: answers with adapters of any methods over one encoder, any mix of them in one forward pass."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

from softcue.adapter import Adapter
from softcue.answering.answers import Question, say
from softcue.answering.evaluation import ROW_BUDGET, run
from softcue.answering.seating import Seating
from softcue.answering.served import check_served, question_of
from softcue.base import Base, open_base
from softcue.errors import RequestError, short
from softcue.kinds import KINDS
from softcue.kinds.base import READS_TEXTS
from softcue.kinds.entities import spans
from softcue.readers.records import Record
from softcue.readers.tables import requests_of

VECTORS = "embed"  # the kind that returns vectors instead of the adapters' own answers
AHEAD = 1_024  # requests that are sorted by length together


class Predictor:
    """Answers requests for any mix of its adapters in shared forward passes."""

    def __init__(
        self,
        backbone: str | Base,
        adapters: Mapping[str, str | Path | Adapter],
        *,
        kind: str | None = None,
        precision: str = "auto",
        device: str = "cpu",
    ) -> None:
        """Load adapters over one backbone.

        adapters: maps names to folders or Adapters. kind: None gives each adapter's own kind of answer;
        "embed" gives the pooled vector that the adapter's head reads, for search, clusters and duplicates.

        Raises AdapterError if an adapter was trained for another backbone or is a fine-tuned checkpoint, and
        RequestError if kind is anything else.
        """
        if kind not in (None, VECTORS):
            raise RequestError(f"kind is {short(kind)}; expected {VECTORS!r}, or None for the adapters' own")
        self.embeds = kind == VECTORS
        self.base = backbone if isinstance(backbone, Base) else open_base(backbone, precision, device)
        self.adapters = {name: self._load(name, adapter) for name, adapter in adapters.items()}
        self.seating = Seating(self.base.backbone.encoder, serves=True)
        self.model = self.seating.model.eval()
        self.seat = dict(zip(self.adapters, self.seating.add_all(list(self.adapters.values())), strict=True))

    def add(self, name: str, adapter: str | Path | Adapter) -> None:
        """Add an adapter, or replace the one of this name.

        Raises AdapterError as the constructor does; the predictor is then unchanged.
        """
        loaded = self._load(name, adapter)
        if name in self.seat:
            self.seating.replace(self.seat[name], loaded)
        else:
            self.seat[name] = self.seating.add(loaded)
        self.adapters[name] = loaded

    def remove(self, name: str) -> None:
        """Remove an adapter. Raises RequestError if the predictor has none of this name."""
        if name not in self.adapters:
            raise RequestError(f"cannot remove adapter {name!r}: this predictor has no adapter of that name")
        del self.adapters[name]
        self.seating.remove(self.seat.pop(name))

    def _load(self, name: str, adapter: str | Path | Adapter) -> Adapter:
        """Load an adapter that this backbone can serve."""
        loaded = adapter if isinstance(adapter, Adapter) else Adapter.load(adapter)
        check_served(name, loaded, self.base)
        return loaded

    def __call__(
        self, requests: Any, budget: int = ROW_BUDGET, *, adapter: str | None = None
    ) -> list[dict[str, Any]]:
        """Return one answer for each request, in the order of the requests.

        - requests: a list of dictionaries or of texts, a DataFrame, or a Dataset. A request may use the
          columns that the adapter was trained on, or the published fields of the adapter's benchmark.
        - budget: the most rows (tokens) in one forward pass.
        - adapter: the name of the adapter for requests that name none.

        An answer has these keys. classify: label, score, scores; score: value; choice: choice, scores;
        multilabel: labels, scores; tag: entities (and tags, if the request has tokens). With kind "embed":
        embedding, a list of D floats. Raises RequestError that names the request.
        """
        return [answer for _, answer in self.answered(requests, budget, adapter)]

    def answered(
        self, requests: Any, budget: int = ROW_BUDGET, adapter: str | None = None
    ) -> Iterator[tuple[Question, dict[str, Any]]]:
        """Yield each request as the adapter read it, with its answer. Raises RequestError."""
        requests = list(check_requests(requests))
        if adapter is not None:
            requests = [
                {"adapter": adapter, **request} if isinstance(request, Mapping) else request
                for request in requests
            ]
        done = 0
        for questions in self._read_ahead(requests):
            seats = [self.seat[request["adapter"]] for request in requests[done : done + len(questions)]]
            done += len(questions)
            made = run(self.model, [question.item for question in questions], seats, budget, self.embeds)
            for question, answer in zip(questions, made, strict=True):
                yield question, {"embedding": answer.tolist()} if self.embeds else say(answer, question)

    def _read_ahead(self, requests: Sequence[Mapping[str, Any]]) -> Iterator[list[Question]]:
        """Yield lists of questions.

        While the caller computes, a thread tokenizes the texts of the next list.
        """

        def read(first: int) -> list[Question]:
            return [self._question(i, requests[i]) for i in range(first, min(first + AHEAD, len(requests)))]

        if len(requests) <= AHEAD:  # there is no next list: a thread would only take time
            yield read(0)
            return
        reader = ThreadPoolExecutor(1)
        try:
            parts = [reader.submit(read, first) for first in range(0, len(requests), AHEAD)]
            for part in parts:
                yield part.result()
                refused = next(
                    (other.exception() for other in parts if other.done() and other.exception()), None
                )
                if refused is not None:  # the whole call fails anyway: do not compute the rest first
                    raise refused
        finally:
            reader.shutdown(cancel_futures=True)

    def _question(self, number: int, request: Mapping[str, Any]) -> Question:
        if not isinstance(request, Mapping):
            raise RequestError(
                f"request {number} is {request!r:.60}; expected an object with adapter, and with text or the "
                "other fields that the adapter reads"
            )
        name = request.get("adapter")
        if not isinstance(name, str) or name not in self.adapters:
            known = ", ".join(list(self.adapters)[:10]) + (" ..." if len(self.adapters) > 10 else "")
            raise RequestError(
                f"request {number} names the adapter {name!r}; this predictor has {known or 'none'}"
            )
        adapter = self.adapters[name]
        try:
            if self.embeds and KINDS[adapter.kind].reads != READS_TEXTS:
                reads = KINDS[adapter.kind].reads
                raise RequestError(
                    f"reads {reads} and gives no vector of a text; expected an adapter of texts or pairs"
                )
            return question_of(request, adapter, self.base.text)
        except RequestError as error:
            where = request.get("where", f"request {number}")
            raise RequestError(f"{where} (adapter '{name}'): {error}") from error


def check_requests(requests: Any) -> Iterable[Any]:
    """Return a list of requests, or the rows of a table as requests.

    Raises RequestError for anything else, also for a single request.
    """
    requests = requests_of(requests)
    if isinstance(requests, str | bytes | Mapping) or not isinstance(requests, Iterable):
        raise RequestError(
            f"{type(requests).__name__} came as requests; expected a list of objects, as in [{{'text': ...}}]"
        )
    return requests


def score_raw_text(
    predictor: Predictor, name: str, records: Sequence[Record], gap: Callable[[str], str] = lambda word: " "
) -> dict[str, float]:
    """Score a tagger on the rows' texts instead of their tokens.

    Returns entity precision, recall and F1, compared by character offsets.

    gap: returns the text to put before a token; it is not called for the first token.
    """
    found, gold = set[tuple[Any, ...]](), set[tuple[Any, ...]]()
    parts = [
        [(gap(word) if place else "") + word for place, word in enumerate(record.tokens)]
        for record in records
    ]
    requests = [
        {"adapter": name, "text": "".join(own), "where": record.where}
        for own, record in zip(parts, records, strict=True)
    ]
    for row, (answer, record, own) in enumerate(zip(predictor(requests), records, parts, strict=True)):
        end = list(accumulate(map(len, own)))
        start = [last - len(word) for last, word in zip(end, record.tokens, strict=True)]
        gold.update((row, kind, start[a], end[b - 1]) for kind, a, b in spans(record.tags))
        found.update((row, e["entity_group"], e["start"], e["end"]) for e in answer["entities"])
    right = len(found & gold)
    precision, recall = right / max(1, len(found)), right / max(1, len(gold))
    return {"precision": precision, "recall": recall, "f1": 2 * right / max(1, len(found) + len(gold))}
