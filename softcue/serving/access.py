"""Access: bearer tokens with a scope for reading and one for managing."""

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from softcue.errors import RequestError
from softcue.files import read_bytes
from softcue.serving.faults import Refusal

READ_SCOPE, MANAGE_SCOPE = "read", "manage"  # scopes; who may manage may read
VARIABLE = {READ_SCOPE: "SOFTCUE_READ_TOKENS", MANAGE_SCOPE: "SOFTCUE_MANAGE_TOKENS"}
SHORTEST, LONGEST_FILE = 16, 2**16  # characters of a token, bytes of a file
MAKE_ONE = 'python -c "import secrets; print(secrets.token_urlsafe(32))" > token'


@dataclass(frozen=True)
class Access:
    """Whose requests are answered. Without tokens everyone's is, on this machine only."""

    read: frozenset[bytes] = field(default=frozenset(), repr=False)  # SHA-256 of each token
    manage: frozenset[bytes] = field(default=frozenset(), repr=False)

    @property
    def is_open(self) -> bool:
        """Whether no token is asked for."""
        return not (self.read or self.manage)

    def check(self, scope: str, headers: Mapping[bytes, bytes]) -> None:
        """Refuse a request for what its token does not allow. Raises Refusal."""
        if self.is_open:
            # a page elsewhere that lets its own name point to this machine would otherwise get in
            host = headers.get(b"host", b"localhost").decode("latin-1")
            if not is_loopback(host_of(host)):
                raise Refusal(
                    403,
                    "Forbidden",
                    "this server has no tokens, so it answers to the names of this machine alone (localhost, "
                    "127.0.0.1); start it with --read-token-file to be reached by others",
                )
            return
        kind, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = hashlib.sha256(token.strip()).digest()
        # every token is compared: the time says nothing of which one was nearly right
        manages = sum([hmac.compare_digest(given, one) for one in self.manage]) > 0
        reads = sum([hmac.compare_digest(given, one) for one in self.read]) > 0
        if kind.lower() != b"bearer" or not (reads or manages):
            raise Refusal(
                401,
                "Unauthorized",
                "expected the header Authorization: Bearer TOKEN with a token that this server knows",
                {"WWW-Authenticate": "Bearer"},
            )
        if scope == MANAGE_SCOPE and not manages:
            raise Refusal(403, "Forbidden", "this token may read; adding and removing takes a manage token")


def gather_access(read_file: Path | None, manage_file: Path | None, environment: Mapping[str, str]) -> Access:
    """Return the tokens of files and of the environment, one a line or word. Raises RequestError."""
    files = {READ_SCOPE: read_file, MANAGE_SCOPE: manage_file}
    tokens = {}
    for scope, file in files.items():
        found = [(VARIABLE[scope], token) for token in environment.get(VARIABLE[scope], "").split()]
        if file is not None:
            found += [(str(file), token) for token in _tokens_in(file)]
        for where, token in found:
            _check_token(where, token)
        tokens[scope] = frozenset(hashlib.sha256(token.encode()).digest() for _, token in found)
    return Access(tokens[READ_SCOPE], tokens[MANAGE_SCOPE])


def check_exposed(host: str, access: Access) -> None:
    """Refuse to be reached from other machines without tokens. Raises RequestError."""
    if access.is_open and not is_loopback(host):
        raise RequestError(
            f"--host {host} lets other machines in, and there are no tokens; make one ({MAKE_ONE}) and give "
            f"--read-token-file and --manage-token-file, or the variables {VARIABLE[READ_SCOPE]} and "
            f"{VARIABLE[MANAGE_SCOPE]}; or keep to 127.0.0.1"
        )


def host_of(header: str) -> str:
    """Return the name or address of a Host header, without the port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


@lru_cache(256)
def is_loopback(host: str) -> bool:
    """Say whether a name or an address means this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _tokens_in(file: Path) -> list[str]:
    try:
        tokens = read_bytes(file, RequestError, LONGEST_FILE).decode("ascii").split()
    except UnicodeError:
        raise RequestError(f"{file}: is not ASCII text; expected one token a line") from None
    if not tokens:
        raise RequestError(f"{file}: holds no token; expected one a line, as from {MAKE_ONE}")
    return tokens


def _check_token(where: str, token: str) -> None:
    """Refuse a token that can be guessed or cannot be sent; the message does not hold it."""
    if len(token) < SHORTEST or not (token.isascii() and token.isprintable()):
        raise RequestError(
            f"{where}: holds a token of {len(token)} characters; expected at least {SHORTEST}, printable "
            f"ASCII ones, as from {MAKE_ONE}"
        )
