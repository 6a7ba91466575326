"""spaCy: an adapter as a component of a pipeline, which sets a document's entities or categories.

spaCy imports this module itself, by the entry point `softcue`; nothing else of softcue does.
"""

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from softcue.answering.opening import open_predictor
from softcue.answering.predict import Predictor
from softcue.errors import RequestError, short
from softcue.kinds import KINDS
from softcue.kinds.base import READS_TEXTS, READS_WORDS

try:
    from spacy.language import Language
    from spacy.tokens import Doc, Span
    from spacy.util import filter_spans, minibatch
except ImportError as error:
    raise RequestError(
        f"spaCy is not installed ({error}); install it: pip install 'softcue[spacy]'"
    ) from error

ALIGNMENTS = ("strict", "contract", "expand")  # spaCy's alignment_mode
DEFAULTS: dict[str, Any] = {
    "adapter": None,
    "backbone": None,
    "precision": "auto",
    "device": "cpu",
    "alignment_mode": "expand",
}


class AdapterComponent:
    """Answers documents with one adapter: sets entities in doc.ents, or probabilities in doc.cats."""

    def __init__(self, predictor: Predictor, adapter: str, name: str, alignment_mode: str) -> None:
        self.predictor, self.adapter, self.name = predictor, adapter, name
        self.alignment_mode = alignment_mode
        self.process = os.getpid()

    def __call__(self, doc: Doc) -> Doc:
        """Answer one document."""
        return next(self.pipe([doc]))

    def pipe(self, stream: Iterable[Doc], batch_size: int = 64) -> Iterator[Doc]:
        """Answer documents in order; batch_size is how many share one call of the encoder.

        Raises RequestError for a document that cannot be answered.
        """
        if os.getpid() != self.process:
            # a process that was forked, as with n_process, lacks the threads that torch would wait for
            torch.set_num_threads(1)
        for docs in minibatch(stream, batch_size):
            asked = [doc for doc in docs if self._says_something(doc.text)]
            requests = [
                {"adapter": self.adapter, "text": doc.text, "where": f"a document of {self.name}"}
                for doc in asked
            ]
            for doc, answer in zip(asked, self.predictor(requests), strict=True):
                self._set(doc, answer)
            yield from docs

    def _says_something(self, text: str) -> bool:
        """Say whether a text has a word; a document without one has no answer, and is left as it is."""
        return bool(text.strip()) and bool(list(self.predictor.base.text.split_words(text)))

    def _set(self, doc: Doc, answer: dict[str, Any]) -> None:
        if "scores" in answer:
            doc.cats = {**doc.cats, **answer["scores"]}
            return
        found = [(entity, self._span(doc, entity)) for entity in answer["entities"]]
        lost = [entity["word"] for entity, span in found if span is None]
        if lost:
            warnings.warn(
                f"{self.name}: {len(lost)} entities fit no spaCy tokens and are left out ({short(lost[0])} "
                f"is one); alignment_mode is {self.alignment_mode!r}, and 'expand' keeps them",
                stacklevel=2,
            )
        ours = filter_spans([span for _, span in found if span is not None])
        taken = {token.i for span in ours for token in span}
        others = [span for span in doc.ents if not taken.intersection(range(span.start, span.end))]
        doc.set_ents([*others, *ours])

    def _span(self, doc: Doc, entity: dict[str, Any]) -> Span | None:
        """Return the tokens of an entity, None where it fits none."""
        span = doc.char_span(
            entity["start"], entity["end"], label=entity["entity_group"], alignment_mode=self.alignment_mode
        )
        return span if span is not None and len(span) else None


@Language.factory("softcue", default_config=DEFAULTS)
def make_component(
    nlp: Language,
    name: str,
    adapter: str | None,
    backbone: str | None,
    precision: str,
    device: str,
    alignment_mode: str,
) -> AdapterComponent:
    """Make a component from an adapter's folder, or from hf:OWNER/NAME.

    Raises SoftcueError for an adapter that cannot be read, or that neither tags nor classifies single texts.
    """
    if not adapter:
        raise RequestError(
            "the component softcue names no adapter; expected config={'adapter': FOLDER}, or hf:OWNER/NAME"
        )
    if alignment_mode not in ALIGNMENTS:
        raise RequestError(
            f"alignment_mode is {short(alignment_mode)}; expected one of {', '.join(ALIGNMENTS)}"
        )
    predictor, own = open_predictor(Path(adapter), backbone, precision, device)
    opened = predictor.adapters[own]
    kind = KINDS[opened.kind]
    labels_texts = kind.reads == READS_TEXTS and kind.has_labels and not opened.pair
    if kind.reads != READS_WORDS and not labels_texts:
        reads = "pairs of texts" if opened.pair else "single texts"
        raise RequestError(
            f"{adapter} answers {opened.kind} on {reads}; expected one that tags or classifies texts"
        )
    return AdapterComponent(predictor, own, name, alignment_mode)
