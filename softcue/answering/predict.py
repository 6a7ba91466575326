"""Predictor: adapters of any methods over one encoder, any mix of them in one forward."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

from softcue.adapter import OWN_ENCODER, Adapter, seat_in
from softcue.answering.answers import INPUTS, Question, ask, say
from softcue.answering.evaluation import ROWS, run
from softcue.base import Base, open_base
from softcue.cues import Cue
from softcue.errors import AdapterError, RequestError
from softcue.heads import Head
from softcue.model import Model, Place
from softcue.readers.items import Reading
from softcue.readers.records import Record
from softcue.scoring.entities import spans
from softcue.tasks import inputs_of

AHEAD = 1_024  # requests whose texts are sorted by length together
OURS = ("adapter", "where")  # keys of a request that say nothing about the text


class Predictor:
    """Answers requests for any of its adapters; rows of all methods, kinds and label counts share a forward."""

    def __init__(
        self, backbone: str | Base, adapters: Mapping[str, str | Path | Adapter], *, precision: str = "auto", device: str = "cpu"
    ) -> None:
        """adapters: name -> folder or Adapter. Raises AdapterError for one of another backbone or a fine-tuned checkpoint."""
        self.base = backbone if isinstance(backbone, Base) else open_base(backbone, precision, device)
        self.adapters = {name: a if isinstance(a, Adapter) else Adapter.load(a) for name, a in adapters.items()}
        for name, adapter in self.adapters.items():
            if adapter.backbone == OWN_ENCODER and adapter.fingerprint != self.base.fingerprint:
                raise AdapterError(
                    f"adapter {name!r} is the head of a fine-tuned checkpoint, which is its own backbone; "
                    f"this is {self.base.backbone.name}: open the folder `encoder` beside it as the backbone"
                )
            adapter.check(name, self.base.backbone.name, self.base.fingerprint, self.base.backbone.encoder.dims)
        self.seat = {name: seat for seat, name in enumerate(self.adapters)}
        self.model = seat_adapters(self.base, list(self.adapters.values()))

    def __call__(self, requests: Sequence[Mapping[str, Any]], budget: int = ROWS) -> list[dict[str, Any]]:
        """One answer per request, in order; budget: rows in one forward. Raises RequestError that names the request.

        A request in the published fields of the adapter's benchmark goes through the benchmark's template.
        classify: label, score, scores; score: value; choice: choice, scores; tag: entities (and tags, for given tokens).
        """
        answers: list[dict[str, Any]] = []
        for questions in self._read_ahead(requests):
            seats = [self.seat[request["adapter"]] for request in requests[len(answers) : len(answers) + len(questions)]]
            made = run(self.model, [question.item for question in questions], seats, budget)
            answers += [say(answer, question) for answer, question in zip(made, questions, strict=True)]
        return answers

    def _read_ahead(self, requests: Sequence[Mapping[str, Any]]) -> Iterator[list[Question]]:
        """Questions, some at a time; a thread turns the texts of the next ones into tokens while the caller computes."""

        def read(first: int) -> list[Question]:
            return [self._question(i, requests[i]) for i in range(first, min(first + AHEAD, len(requests)))]

        if len(requests) <= AHEAD:  # nothing is ahead: a thread would only take time
            yield read(0)
            return
        reader = ThreadPoolExecutor(1)
        try:
            parts = [reader.submit(read, first) for first in range(0, len(requests), AHEAD)]
            for part in parts:
                yield part.result()
                refused = next((other.exception() for other in parts if other.done() and other.exception()), None)
                if refused is not None:  # further down: nothing is gained by computing up to it
                    raise refused
        finally:
            reader.shutdown(cancel_futures=True)

    def _question(self, number: int, request: Mapping[str, Any]) -> Question:
        if not isinstance(request, Mapping):
            raise RequestError(f"request {number} is {request!r:.60}; expected an object with adapter, and text or what else it reads")
        name = request.get("adapter")
        if not isinstance(name, str) or name not in self.adapters:
            known = ", ".join(list(self.adapters)[:10]) + (" ..." if len(self.adapters) > 10 else "")
            raise RequestError(f"request {number} names the adapter {name!r}; this predictor has {known or 'none'}")
        adapter = self.adapters[name]
        try:
            raw = {key: value for key, value in request.items() if key not in OURS}
            inputs = inputs_of(adapter.task, raw) if set(raw) - set(INPUTS) else raw  # no other key: the texts as they are to be read
            return ask(inputs, reading_of(adapter), adapter.pair, self.base.text)
        except RequestError as error:
            where = request.get("where", f"request {number}")
            raise RequestError(f"{where} (adapter '{name}'): {error}") from error


def score_raw_text(
    predictor: Predictor, name: str, records: Sequence[Record], gap: Callable[[str], str] = lambda word: " "
) -> dict[str, float]:
    """Entity precision, recall and F1 by character offsets, where a tagger is given the rows' texts instead of their tokens.

    gap: what stands before a token in the text, but for the first.
    """
    found, gold = set[tuple[Any, ...]](), set[tuple[Any, ...]]()
    parts = [[(gap(word) if place else "") + word for place, word in enumerate(record.tokens)] for record in records]
    requests = [{"adapter": name, "text": "".join(own), "where": record.where} for own, record in zip(parts, records, strict=True)]
    for row, (answer, record, own) in enumerate(zip(predictor(requests), records, parts, strict=True)):
        end = list(accumulate(map(len, own)))
        start = [last - len(word) for last, word in zip(end, record.tokens, strict=True)]
        gold.update((row, kind, start[a], end[b - 1]) for kind, a, b in spans(record.tags))
        found.update((row, e["entity_group"], e["start"], e["end"]) for e in answer["entities"])
    right = len(found & gold)
    precision, recall = right / max(1, len(found)), right / max(1, len(gold))
    return {"precision": precision, "recall": recall, "f1": 2 * right / max(1, len(found) + len(gold))}


def reading_of(adapter: Adapter) -> Reading:
    """How an adapter reads its input."""
    return Reading(adapter.kind, adapter.labels, adapter.limit, adapter.centre, adapter.spread)


def seat_adapters(base: Base, adapters: Sequence[Adapter]) -> Model:
    """A model with a seat per adapter: one cue per (method, shape), one head per (kind, pooling)."""
    cue_groups: dict[Any, list[Adapter]] = {}
    head_groups: dict[Any, list[Adapter]] = {}
    places: list[list[int]] = []  # cue, seat of the cue, head, seat of the head
    for adapter in adapters:
        places.append([])
        for groups, key in (
            (cue_groups, (adapter.method, Cue.registry[adapter.method].shape(adapter.config))),
            (head_groups, (adapter.kind, adapter.pooling)),
        ):
            members = groups.setdefault(key, [])
            places[-1] += [list(groups).index(key), len(members)]
            members.append(adapter)
    dims = base.backbone.encoder.dims
    cues = [Cue.registry[method](dims, members[0].config, len(members)) for (method, _), members in cue_groups.items()]
    heads = [
        Head.registry[kind](dims.hidden, [max(1, len(a.labels)) for a in members], pooling)
        for (kind, pooling), members in head_groups.items()
    ]
    model = Model(base.backbone.encoder, cues, heads, [Place(*place) for place in places])
    for place, adapter in zip(model.places, adapters, strict=True):
        seat_in(cues[place.cue], place.cue_seat, heads[place.head], place.head_seat, adapter)
    model.serve()
    return model.to(model.device).eval()
