"""What serving one adapter takes: the check of its backbone, and its requests made ready for the encoder."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from softcue.adapter import OWN_ENCODER, Adapter
from softcue.answering.answers import Question, ask, inputs_for
from softcue.base import Base
from softcue.errors import AdapterError, SettingsError, short
from softcue.kinds import KINDS
from softcue.kinds.record import Reading
from softcue.text.tokens import Text


def check_served(name: str, adapter: Adapter, base: Base) -> None:
    """Refuse an adapter that this backbone cannot serve. Raises AdapterError."""
    if adapter.backbone == OWN_ENCODER and adapter.fingerprint != base.fingerprint:
        raise AdapterError(
            f"adapter {name!r} is the head of a fine-tuned checkpoint, which is its own backbone; "
            f"this is {base.backbone.name}: open the folder `encoder` beside it as the backbone"
        )
    adapter.check(name, base.backbone.name, base.fingerprint, base.backbone.encoder.dims)


def question_of(request: Mapping[str, Any], adapter: Adapter, text: Text) -> Question:
    """Make a request of an adapter into one item; a benchmark's own fields go through its template.

    Raises RequestError where its fields do not fit the adapter's kind.
    """
    question = ask(
        inputs_for(request, adapter.task, adapter.columns), reading_of(adapter), adapter.pair, text
    )
    return replace(question, unsure_below=adapter.unsure_below) if adapter.unsure_below else question


def with_unsure_below(adapter: Adapter, chance: float | None) -> Adapter:
    """Return the adapter with a chance below which its answers are called unsure; it is saved with it.

    None leaves the adapter as it is. Raises SettingsError as check_unsure_below does.
    """
    if chance is None:
        return adapter
    check_unsure_below(chance, adapter.kind)
    return replace(adapter, unsure_below=float(chance))


def check_unsure_below(chance: float | None, kind: str) -> None:
    """Raise SettingsError for what is no chance, and for a kind whose answers have none."""
    if chance is None:
        return
    if not isinstance(chance, int | float) or isinstance(chance, bool) or not 0 <= chance <= 1:
        raise SettingsError(f"unsure_below is {short(chance)}; expected a chance from 0 to 1")
    if not KINDS[kind].has_chances:
        raise SettingsError(f"unsure_below came for {kind}, whose answers have no one chance; leave it out")


def reading_of(adapter: Adapter) -> Reading:
    """Return how an adapter reads its input."""
    return Reading(
        adapter.kind, adapter.labels, adapter.limit, adapter.centre, adapter.spread, adapter.threshold
    )
