"""What the HTTP routes need of the service behind them."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from softcue.adapter import Adapter
from softcue.bank.entry import Entry


class Answered(Protocol):
    """One request's answer."""

    @property
    def entry(self) -> Entry:
        """The version of the adapter that answered."""

    @property
    def value(self) -> dict[str, Any]:
        """What a Predictor gives for the adapter's kind."""

    @property
    def choices(self) -> Sequence[str]:
        """The choices of the request, if it has any."""

    @property
    def tokens(self) -> int:
        """How many tokens were read."""

    @property
    def truncated(self) -> bool:
        """Whether the text was cut at the adapter's limit."""


class Answering(Protocol):
    """Answers requests, each by the adapter that it names.

    Its methods raise UnknownAdapterError, RequestError, BusyError, DeadlineError and ClosingError.
    """

    async def answer(self, requests: Sequence[Mapping[str, Any]]) -> Sequence[Answered]:
        """Return one answer per request, or raise."""

    async def fan_out(self, adapters: Sequence[str], inputs: Mapping[str, Any]) -> Sequence[Answered]:
        """Return one answer per adapter for the same inputs, or raise."""

    def check(self, name: str, adapter: Adapter) -> None:
        """Refuse an adapter that the loaded encoder cannot serve. Raises AdapterError."""

    async def close(self) -> None:
        """Answer what was accepted, and refuse the rest."""

    def facts(self) -> Mapping[str, Any]:
        """Return the numbers that /metrics and /info show."""
