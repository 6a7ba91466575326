"""Source: the interface through which a server finds adapters, in a bank or in a folder of adapters."""

from typing import Protocol

from softcue.adapter import Adapter
from softcue.bank.entry import Entry


class Source(Protocol):
    """Gives adapters by name, with versions and aliases.

    Any thread may call any method. The next call sees the changes of other processes.
    """

    @property
    def backbone(self) -> str:
        """The name of the adapters' backbone; "" while there are no adapters."""

    @property
    def fingerprint(self) -> str:
        """The fingerprint of that backbone; "" while there are no adapters."""

    def find(self, asked: str) -> Entry:
        """Return the entry that "spam" (the newest version), "spam@3" or "spam@prod" means now.

        Raises UnknownAdapterError if there is none.
        """

    def load(self, entry: Entry) -> Adapter:
        """Read an adapter.

        Raises UnknownAdapterError if it was removed in the meantime, AdapterError if it is damaged.
        """

    def page(self, after: str = "", limit: int = 100, search: str = "") -> list[Entry]:
        """Return the newest version of each of the next names after `after`, sorted by name.

        search: only names that contain this, in upper or lower case. limit: the most entries.
        """

    def count(self) -> int:
        """Count the names."""

    def add(self, name: str, adapter: Adapter) -> Entry:
        """Store a new version of a name; when this returns, it is on the disk.

        Raises AdapterError if the adapter has another backbone, RequestError if the name is not allowed.
        """

    def alias(self, name: str, alias: str, version: int | None) -> Entry:
        """Make name@alias mean a version, and return the version's entry.

        version: None removes the alias, and returns the entry that it meant. Raises UnknownAdapterError if
        there is no such version or alias.
        """

    def remove(self, asked: str) -> list[Entry]:
        """Remove all versions of a name ("spam") or one version ("spam@3"), and return the removed entries.

        Raises UnknownAdapterError if there are none.
        """
