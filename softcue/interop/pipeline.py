"""Pipelines: an adapter as a callable that answers in the shapes of transformers' pipelines."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from softcue.adapter import Adapter
from softcue.answering.opening import open_predictor
from softcue.answering.piped import FUNCTIONS, STRATEGIES, piped_answer
from softcue.answering.predict import Predictor
from softcue.base import Base
from softcue.errors import RequestError, short
from softcue.kinds import KINDS
from softcue.kinds.base import READS_WORDS
from softcue.options import check_list, check_whole
from softcue.readers.tables import requests_of

TOP = 1_000_000  # of top_k
Texts = str | Mapping[str, Any] | Iterable[str | Mapping[str, Any]]


class AdapterPipeline:
    """Answers texts with one adapter of a predictor, in the form of `transformers.pipeline`."""

    def __init__(
        self,
        predictor: Predictor,
        name: str,
        *,
        top_k: int | Literal["best"] | None = "best",
        aggregation_strategy: str = "none",
    ) -> None:
        """Take the adapter that has this name in the predictor.

        top_k and aggregation_strategy are the defaults of calls. Raises RequestError.
        """
        if not isinstance(name, str) or name not in predictor.adapters:
            known = ", ".join(list(predictor.adapters)[:10]) or "none"
            raise RequestError(f"the adapter {name!r} is not there; this predictor has {known}")
        self.predictor, self.name = predictor, name
        self.top_k = _checked_top(top_k)
        self.aggregation_strategy = _among("aggregation_strategy", aggregation_strategy, STRATEGIES)

    def __call__(
        self,
        inputs: Texts,
        *,
        top_k: int | Literal["best", "given"] | None = "given",
        function_to_apply: str | None = None,
        aggregation_strategy: str | None = None,
        ignore_labels: Sequence[str] | None = ("O",),
    ) -> list[Any] | dict[str, Any]:
        """Answer a text, an object with the adapter's inputs, or a list or table of them.

        - top_k: the number of labels, None for all. "best" gives the best label without a list around it,
          but for a single text in a list of one, as transformers does. "given" is what was said when the
          pipeline was made, as it is where function_to_apply or aggregation_strategy are None.
        - ignore_labels: names of tags, or of types of entities where words are grouped, that are left out.

        Raises RequestError.
        """
        one = isinstance(inputs, str | Mapping)
        rows = [_row(part) for part in ([inputs] if one else _listed(inputs))]
        top = self.top_k if top_k == "given" else _checked_top(top_k)
        strategy = _among(
            "aggregation_strategy", aggregation_strategy or self.aggregation_strategy, STRATEGIES
        )
        if function_to_apply is not None:
            _among("function_to_apply", function_to_apply, FUNCTIONS)
        ignored = check_list("ignore_labels", () if ignore_labels is None else ignore_labels)
        kind = self.predictor.adapters[self.name].kind
        answered = list(self.predictor.answered(rows, adapter=self.name))
        piped = [
            piped_answer(
                kind,
                answer,
                question.record.choices,
                name=self.name,
                top_k=1 if top == "best" else top,
                function_to_apply=function_to_apply,
                aggregation_strategy=strategy,
                ignore_labels=ignored,
            )
            for question, answer in answered
        ]
        if KINDS[kind].reads == READS_WORDS:
            made: list[Any] = [
                _numbered(own, question.text) for own, (question, _) in zip(piped, answered, strict=True)
            ]
            return made[0] if one else made
        made = [own[0] if top == "best" else own for own in piped]
        if isinstance(inputs, str) and top_k in ("given", "best"):
            return made
        return made[0] if one else made


def pipeline(
    adapter: str | Path | Adapter,
    *,
    backbone: str | Base | None = None,
    precision: str = "auto",
    device: str = "cpu",
    top_k: int | Literal["best"] | None = "best",
    aggregation_strategy: str = "none",
) -> AdapterPipeline:
    """Open an adapter as a callable that answers in the form of `transformers.pipeline`.

    - adapter: a folder, hf:OWNER/NAME or an Adapter.
    - backbone: None loads the encoder that the adapter names.
    - top_k, aggregation_strategy: the defaults of calls.

    Raises SoftcueError.
    """
    predictor, name = open_predictor(adapter, backbone, precision, device)
    return AdapterPipeline(predictor, name, top_k=top_k, aggregation_strategy=aggregation_strategy)


def _listed(inputs: Any) -> list[Any]:
    inputs = requests_of(inputs)
    if isinstance(inputs, bytes) or not isinstance(inputs, Iterable):
        raise RequestError(f"{short(inputs)} came as texts; expected a text, an object, or a list of them")
    return list(inputs)


def _row(part: Any) -> dict[str, Any]:
    """Return one input as a request without its adapter."""
    if isinstance(part, str):
        return {"text": part}
    if isinstance(part, Mapping):
        return {key: value for key, value in part.items() if key not in ("adapter", "where")}
    raise RequestError(
        f"{short(part)} came as a text; expected a text, or an object as in {{'text': .., 'text_pair': ..}}"
    )


def _checked_top(top_k: Any) -> Any:
    return top_k if top_k is None or top_k == "best" else check_whole("top_k", top_k, 1, TOP)


def _among(name: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise RequestError(f"{name} is {short(value)}; expected one of {', '.join(known)}")
    return value


def _numbered(words: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """Number words that are not grouped by their places in the text, from 1; leave entities as they are."""
    return [
        {
            "entity": word["entity"],
            "score": word["score"],
            "index": len(text[: word["start"]].split()) + 1,
            **word,
        }
        if "entity" in word
        else word
        for word in words
    ]
