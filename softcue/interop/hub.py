"""Hub: push an adapter's folder, or that of a fine-tuned checkpoint, to the Hugging Face hub."""

from dataclasses import replace
from pathlib import Path

from softcue.adapter import Adapter
from softcue.adapter.card import card_of, public_backbone
from softcue.adapter.folder import own_paths
from softcue.adapter.remote import Pushed, local_folder, parse_repository, push_files
from softcue.errors import RequestError


def push_folder(
    folder: str | Path,
    repository: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
) -> Pushed:
    """Check an adapter's folder, and push its own files and a model card to OWNER/NAME.

    - private: for a new repository; None follows the owner's settings.
    - token: None takes the hub's own (HF_TOKEN).
    - revision: a branch.

    Other files in the folder are not pushed. Raises AdapterError for the folder, and RequestError for what
    the hub refuses.
    """
    place = local_folder(folder)
    adapter = Adapter.load(place)
    files: dict[str, bytes | Path] = {**own_paths(place)}
    card = card_of(adapter, parse_repository(repository, RequestError).name)
    done = push_files(files, card, repository, private=private, token=token, revision=revision)
    if adapter.tuned == "cue" and public_backbone(adapter) is None:
        note = (
            f"the adapter names its backbone {adapter.backbone!r}, which others cannot fetch; they must give "
            "--backbone, with the same weights"
        )
        return replace(done, notes=(*done.notes, note))
    return done
