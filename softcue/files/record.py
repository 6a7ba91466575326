"""Records whose fields are what a JSON object holds."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class JsonRecord:
    """Base of frozen dataclasses that are returned as values and written as JSON."""

    def to_json(self) -> dict[str, Any]:
        """Return its fields ready for JSON: records become objects, and a field's tuple a list."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }
