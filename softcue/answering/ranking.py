"""Ranking: candidates for a query, by an adapter that scores pairs or chooses among texts."""

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
    """Return the candidates of each request, best first, as {"index", "score"}.

    requests: {"adapter", "query", "candidates"}, of any of the predictor's adapters, whose rows share forward
    passes; index: of the candidate in its request. A score adapter of pairs gives its value of (query,
    candidate), a choice adapter the candidate's probability among all. Raises RequestError for others.
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
    """Return the predictor's requests that one ranking takes."""
    if not isinstance(request, Mapping) or set(request) != set(RANKED):
        raise RequestError(f"request {number} is {short(request)}; expected {', '.join(RANKED)}")
    name, query, candidates = (request[key] for key in RANKED)
    if not isinstance(candidates, Sequence) or isinstance(candidates, str) or not candidates:
        raise RequestError(
            f"request {number} has {short(candidates)} as candidates; expected a list of texts"
        )
    adapter = predictor.adapters.get(name)
    kind = None if adapter is None else KINDS[adapter.kind]  # the predictor tells of names that it lacks
    if kind is not None and kind.reads == READS_CHOICES:
        return [{"adapter": name, "text": query, "choices": list(candidates)}]
    if adapter is not None and not (KINDS[adapter.kind].numeric and adapter.pair):
        what = f"{adapter.kind} of {'pairs' if adapter.pair else 'single texts'}"
        raise RequestError(
            f"request {number} asks adapter {short(name)} to rank, which is for {what}; expected one that "
            "scores pairs or chooses"
        )
    return [{"adapter": name, "text": query, "text_pair": candidate} for candidate in candidates]
