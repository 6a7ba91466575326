"""Source: where a server finds adapters, be it a bank or a folder of adapter folders."""

from typing import Protocol

from softcue.adapter import Adapter
from softcue.bank.entry import Entry


class Source(Protocol):
    """Adapters by name, with versions and aliases.

    Every method may be called from any thread. What another process changes is seen by the next call.
    """

    @property
    def backbone(self) -> str:
        """The backbone to load, by the name that the adapters give; "" while there are none."""

    @property
    def fingerprint(self) -> str:
        """The fingerprint of that backbone, "" while there are none."""

    def find(self, asked: str) -> Entry:
        """Return what "spam" (the newest version), "spam@3" or "spam@prod" stands for now.

        Raises UnknownAdapterError.
        """

    def load(self, entry: Entry) -> Adapter:
        """Read an adapter.

        Raises UnknownAdapterError if it was removed in the meantime, AdapterError if it is damaged.
        """

    def page(self, after: str = "", limit: int = 100, search: str = "") -> list[Entry]:
        """Return the newest versions of the next names after `after` that contain `search`, in order."""

    def count(self) -> int:
        """Count the names."""

    def add(self, name: str, adapter: Adapter) -> Entry:
        """Store a new version; when this returns, it is on the disk.

        Raises AdapterError for an adapter of another backbone, RequestError for a name that cannot be.
        """

    def alias(self, name: str, alias: str, version: int | None) -> Entry:
        """Let name@alias stand for a version, or for none any more; return the entry it stood or stands for.

        Raises UnknownAdapterError.
        """

    def remove(self, asked: str) -> list[Entry]:
        """Remove "spam" with all versions, or one version of it; return what was removed.

        Raises UnknownAdapterError.
        """
