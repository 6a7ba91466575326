"""The error tree: one root, and one child for each thing of the user's that can be wrong."""


class SoftcueError(Exception):
    """Anything softcue refuses; the message says what came, what was expected and what to do."""


class BatchError(SoftcueError):
    """Examples that cannot be packed together, or not for the adapters that they name."""


class BackboneError(SoftcueError):
    """An encoder or tokenizer that is absent, incomplete or of an unknown family."""


class AdapterError(SoftcueError):
    """An adapter that is damaged, of another format, or of another backbone."""


class RequestError(SoftcueError):
    """Data, a flag or a request that does not say what it must."""


class DivergedError(RequestError):
    """Training whose loss was no finite number before it was ever scored."""
