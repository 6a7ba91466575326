"""Remote: an adapter's files in a repository of the Hugging Face hub, fetched by name and pushed whole."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from softcue.adapter.card import CARD, is_own_card
from softcue.adapter.folder import HEADER, TENSORS, own_files
from softcue.adapter.header import CONFIG_LIMIT, is_ours
from softcue.errors import AdapterError, RequestError, SoftcueError, one_line, short
from softcue.files import JsonRecord, parse_json, read_bytes, reading, resolve

_Found = TypeVar("_Found")
HUB_PREFIX = "hf:"  # as data of the hub are named
# an owner is required: a name alone would be taken for a folder's
REPOSITORY = re.compile(r"(?=.{3,96}$)[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Repository:
    """A repository of the hub, at a branch, a tag or a commit."""

    name: str  # OWNER/NAME
    revision: str | None = None  # None: the main branch

    def __str__(self) -> str:
        return f"{HUB_PREFIX}{self.name}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Pushed(JsonRecord):
    """What a push ended with."""

    url: str  # of the commit
    files: tuple[str, ...]
    notes: tuple[str, ...]  # what is to be known before others use it


def parse_repository(name: str, error: type[SoftcueError] = AdapterError) -> Repository:
    """Return what OWNER/NAME or OWNER/NAME@REVISION stands for, with or without hf: in front."""
    own, at, revision = name.removeprefix(HUB_PREFIX).partition("@")
    if not REPOSITORY.fullmatch(own) or ".." in own or "--" in own or bool(at) != bool(revision):
        raise error(
            f"{short(name)} names no repository of the hub; expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION"
        )
    return Repository(own, revision or None)


def is_remote(where: str | Path) -> bool:
    """Say whether an adapter is named by a repository of the hub."""
    return str(where).startswith(HUB_PREFIX)


def local_folder(where: str | Path) -> Path:
    """Return an adapter's folder on this machine: the one that is named, or a repository's, fetched.

    Raises AdapterError for a repository that holds no adapter or cannot be had.
    """
    if not isinstance(where, str | os.PathLike):
        raise AdapterError(f"{type(where).__name__} came as an adapter; expected a folder's path")
    return fetch_adapter(parse_repository(str(where))) if is_remote(where) else Path(where)


def read_in_place(where: str | Path, read: Callable[[Path], _Found]) -> _Found:
    """Return what `read` makes of an adapter's folder, which is not swapped meanwhile.

    Raises AdapterError.
    """
    place = local_folder(where)
    try:
        with reading(place):
            if not place.is_dir():
                raise AdapterError(f"{place}: no such folder; expected one with {HEADER} and {TENSORS}")
            return read(place)
    except (OSError, ValueError, RequestError) as error:
        raise AdapterError(f"{where}: {error}") from error


def own_name(where: str | Path) -> str:
    """Return the last part of an adapter's name: its folder's, or its repository's without the owner."""
    return parse_repository(str(where)).name.split("/")[1] if is_remote(where) else resolve(where).name


def fetched(where: str | Path, revision: str | None, token: str | None, cache_dir: str | Path | None) -> Path:
    """Return local_folder's, where OWNER/NAME is a repository, too, unless it is there as a folder.

    Raises AdapterError.
    """
    named = str(where)
    if not is_remote(named) and (os.path.lexists(named) or not REPOSITORY.fullmatch(named.partition("@")[0])):
        return Path(where)
    repository = parse_repository(named)
    if revision is not None and repository.revision is not None:
        raise AdapterError(f"{named} came with the revision {revision!r}; name one of them")
    return fetch_adapter(replace(repository, revision=revision or repository.revision), token, cache_dir)


def fetch_adapter(
    repository: Repository, token: str | None = None, cache_dir: str | Path | None = None
) -> Path:
    """Return the folder, in the hub's local cache, of an adapter that a repository holds.

    What is not there yet is downloaded: an adapter's own files by their names, all of one commit, and nothing
    else of the repository. Raises AdapterError.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    hub = HfApi(token=token)

    def get(name: str, revision: str | None) -> Path:
        return Path(hub.hf_hub_download(repository.name, name, revision=revision, cache_dir=cache_dir))

    try:
        header_file = get(HEADER, repository.revision)
        folder = header_file.parent
        header = _own_header(header_file)
        commit = folder.name  # the other files of the same commit, whatever is pushed meanwhile
        get(TENSORS, commit)
        for name in own_files(header) - {HEADER, TENSORS}:
            if not name.endswith("/"):
                _get_if_there(get, name, commit)
    except AdapterError as error:
        raise AdapterError(f"{repository}: {error}") from error
    except Exception as error:  # the hub passes on errors of whatever carries its requests
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            reason = (
                f"it holds no adapter; expected {HEADER} and {TENSORS}, as Adapter.push_to_hub writes them"
            )
        else:
            reason = hub_reason(error)
        raise AdapterError(f"{repository}: {reason}") from error
    return folder


def _get_if_there(get: Any, name: str, commit: str) -> None:
    """Fetch a file that a checkpoint may have."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        get(name, commit)
    except EntryNotFoundError as error:
        if isinstance(error, LocalEntryNotFoundError):
            raise


def _own_header(file: Path) -> dict[str, Any]:
    """Return a header that softcue wrote, before its tensors are downloaded. Raises AdapterError."""
    try:
        header = parse_json(read_bytes(file, AdapterError, CONFIG_LIMIT))
    except ValueError as error:
        raise AdapterError(f"{HEADER} {error}") from error
    if not is_ours(header):
        raise AdapterError(f"its {HEADER} is not one that softcue wrote, as PEFT's are not")
    return header


def push_files(
    files: Mapping[str, bytes | Path],
    card: bytes,
    name: str,
    *,
    private: bool | None,
    token: str | None,
    revision: str | None,
) -> Pushed:
    """Push an adapter's files and its card in one commit to a repository, which is made if there is none.

    files: bytes, or where they are on disk, by their paths in the repository. private: None leaves a
    repository as it is, and makes a new one as the owner's settings say. revision: a branch, made if there is
    none. Raises RequestError.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    repository = parse_repository(name, RequestError)
    if repository.revision and revision:
        raise RequestError(f"{name} came with the revision {revision!r}; name one of them")
    branch = revision or repository.revision
    hub = HfApi(token=token)
    notes: tuple[str, ...] = ()
    try:
        hub.create_repo(repository.name, private=private, exist_ok=True)
        if branch is not None:
            hub.create_branch(repository.name, branch=branch, exist_ok=True)
        if _has_card_of_others(hub, repository.name, branch):
            notes = (f"the repository's {CARD} is not as softcue wrote it; it stays as it is",)
        else:
            files = {**files, CARD: card}
        adds = [
            CommitOperationAdd(path, data if isinstance(data, bytes) else os.fspath(data))
            for path, data in sorted(files.items())
        ]
        done = hub.create_commit(repository.name, adds, commit_message="Adapter of softcue", revision=branch)
    except Exception as error:  # as in fetch_adapter
        raise RequestError(f"cannot push to {repository}: {hub_reason(error)}") from error
    return Pushed(str(done.commit_url), tuple(sorted(files)), notes)


def _has_card_of_others(hub: Any, name: str, branch: str | None) -> bool:
    """Say whether the repository has a card that somebody wrote or edited."""
    from huggingface_hub.errors import EntryNotFoundError

    try:
        file = hub.hf_hub_download(name, CARD, revision=branch)
    except EntryNotFoundError:
        return False
    return not is_own_card(read_bytes(Path(file), RequestError))


def hub_reason(error: Exception) -> str:
    """Return what the hub or the network said, on one line, with what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return "it is gated; ask its owner for access, and give a token (HF_TOKEN)"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such repository, or it is private; check the name, or give a token (HF_TOKEN)"
    if isinstance(error, RevisionNotFoundError):
        return "it has no such revision; expected one of its branches, tags or commits"
    if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
        return "it is not in the local cache, and the hub cannot be reached; check the connection"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        advice = "; check the token (HF_TOKEN) and what it may do" if status in (401, 403) else ""
        return f"the hub answered {status}{advice}"
    return one_line((str(error).strip().splitlines() or [type(error).__name__])[0][:200])
