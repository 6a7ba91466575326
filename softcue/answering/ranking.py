"""Ranking: sorts candidates for a query with an adapter that scores pairs or chooses among texts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from softcue.answering.evaluation import ROW_BUDGET
from softcue.answering.predict import Predictor
from softcue.errors import RequestError, short
from softcue.kinds import KINDS
from softcue.kinds.base import READS_CHOICES

RANKED = ("adapter", "query", "candidates")


def rank(
    predictor: Predictor, requests: Iterable[Mapping[str, Any]], budget: int = ROW_BUDGET
) -> list[list[dict[str, Any]]]:
    """Rank the candidates of each request, the best first.

    - requests: dictionaries {"adapter", "query", "candidates"}. They may name any mix of the predictor's
      adapters, and share forward passes.
    - budget: the most rows (tokens) in one forward pass.

    Returns a list of {"index", "score"} for each request; index is the candidate's place in its request. With
    a score adapter of pairs, score is its value for (query, candidate). With a choice adapter, score is the
    candidate's probability among all candidates. Raises RequestError for adapters of other kinds.
    """
    asked = [_pairs(predictor, number, request) for number, request in enumerate(requests)]
    answers = iter(predictor([one for own in asked for one in own], budget))
    ranked = []
    for own in asked:
        said = [next(answers) for _ in own]
        scores = said[0]["scores"] if "scores" in said[0] else [answer["value"] for answer in said]
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        ranked.append([{"index": index, "score": scores[index]} for index in order])
    return ranked


def _pairs(predictor: Predictor, number: int, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the requests to the predictor for one ranking."""
    if not isinstance(request, Mapping) or set(request) != set(RANKED):
        raise RequestError(f"request {number} is {short(request)}; expected {', '.join(RANKED)}")
    name, query, candidates = (request[key] for key in RANKED)
    if not isinstance(candidates, Sequence) or isinstance(candidates, str) or not candidates:
        raise RequestError(
            f"request {number} has {short(candidates)} as candidates; expected a list of texts"
        )
    adapter = predictor.adapters.get(name)
    kind = None if adapter is None else KINDS[adapter.kind]  # the predictor refuses names that it lacks
    if kind is not None and kind.reads == READS_CHOICES:
        return [{"adapter": name, "text": query, "choices": list(candidates)}]
    if adapter is not None and not (KINDS[adapter.kind].numeric and adapter.pair):
        what = f"{adapter.kind} of {'pairs' if adapter.pair else 'single texts'}"
        raise RequestError(
            f"request {number} ranks with adapter {short(name)}, which is for {what}; expected an adapter "
            "that scores pairs or chooses among texts"
        )
    return [{"adapter": name, "text": query, "text_pair": candidate} for candidate in candidates]
