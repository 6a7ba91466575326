"""Hub: data sets of the Hugging Face hub, through the optional library `datasets`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from softcue.errors import DataError
from softcue.readers.records import RawRow


@dataclass(frozen=True)
class Hub:
    """Where a data set is on the hub.

    `splits` maps our split names to the hub's, and names only those with labels.
    """

    identity: str  # "owner/name", or a folder that `datasets` can load
    config: str | None = None
    revision: str | None = None
    splits: Mapping[str, str] = field(default_factory=dict)  # empty: recognised by name


@dataclass(frozen=True)
class HubSplit:
    """One split: rows with class numbers turned into names."""

    name: str  # as the hub calls it
    rows: Any  # datasets.Dataset
    names: Mapping[str, Any]  # column -> ClassLabel

    def __iter__(self) -> Iterator[tuple[int, RawRow]]:
        for number, row in enumerate(self.rows, start=1):
            yield (
                number,
                {**row, **{column: _named(row[column], feature) for column, feature in self.names.items()}},
            )

    def unlabelled(self, column: str) -> bool:
        """Say whether every row has the -1 by which the hub marks a hidden label."""
        return column in self.names and len(self.rows) > 0 and set(self.rows[column]) == {-1}


def _named(value: Any, feature: Any) -> Any:
    if isinstance(value, list):
        return [_named(item, feature) for item in value]
    return feature.names[value] if isinstance(value, int) and 0 <= value < len(feature.names) else value


def load_hub(hub: Hub) -> dict[str, HubSplit]:
    """Load every split of a data set of the hub, under the hub's names.

    Raises RequestError where it cannot be had.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"hf:{hub.identity}: reading from the hub needs `datasets`; install softcue[hf]"
        ) from error
    try:
        loaded = datasets.load_dataset(hub.identity, hub.config, revision=hub.revision)
    except Exception as error:  # the library raises whatever its storage, its parsers and the network do
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise DataError(
            f"hf:{hub.identity} could not be loaded ({reason}); check the name and the connection, or give "
            "a folder of files"
        ) from error
    found = {}
    for name, rows in loaded.items():
        inner = {column: getattr(feature, "feature", feature) for column, feature in rows.features.items()}
        names = {
            column: feature for column, feature in inner.items() if isinstance(feature, datasets.ClassLabel)
        }
        found[str(name)] = HubSplit(str(name), rows, names)
    return found
