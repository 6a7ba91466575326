"""Uploads: a tar with an adapter's two files, unpacked in memory as it comes and never onto the disk."""

import zlib
from collections.abc import AsyncIterator

from softcue.adapter.folder import HEADER, TENSORS
from softcue.errors import RequestError, short
from softcue.serving.body import too_large

BLOCK = 512  # bytes; what a tar is made of
HEADERS = 64  # members of a tar, at most: two files, and what a tar program adds
GZIP = b"\x1f\x8b"
UNPACKED_AT_ONCE = 2**20  # bytes that are unpacked at once
HOW = f"tar -C FOLDER -c {HEADER} {TENSORS}"

# what tar programs add by themselves: the folder itself, and notes about the next member or all of them
FOLDER, NOTES = b"5", (b"x", b"g")
PLAIN = (b"0", b"\0")


async def unpack(parts: AsyncIterator[bytes], limit: int) -> bytes:
    """Return the bytes of a tar that comes in parts, gzipped or not.

    Neither what comes nor what it unpacks to is read beyond `limit` bytes. Raises Refusal, RequestError.
    """
    packed, whole = 0, bytearray()
    inflater = None
    async for part in parts:
        if not packed and part[:2] == GZIP:
            inflater = zlib.decompressobj(wbits=31)
        packed += len(part)
        if packed > limit:
            raise too_large(limit)
        if inflater is None:
            whole += part
        else:
            _inflate(inflater, part, whole, limit)
    if inflater is not None and not inflater.eof:
        raise RequestError("the gzipped tar ends before its end; send it again")
    return bytes(whole)


def _inflate(inflater: "zlib._Decompress", part: bytes, whole: bytearray, limit: int) -> None:
    """Add what a part unpacks to, as far as the limit allows."""
    if inflater.eof:
        raise RequestError("something follows the end of the gzipped tar; expected one gzip stream")
    room = made = 0
    while part or (made and made == room):  # as long as something is left, of the part or inside
        room = min(UNPACKED_AT_ONCE, limit + 1 - len(whole))
        try:
            piece = inflater.decompress(part, room)
        except zlib.error as error:
            raise RequestError(f"the gzipped tar cannot be unpacked: {error}; send it again") from None
        whole += piece
        if len(whole) > limit:
            raise too_large(limit)
        part, made = inflater.unconsumed_tail, len(piece)
    if inflater.unused_data:
        raise RequestError("something follows the end of the gzipped tar; expected one gzip stream")


def files_in_tar(data: bytes) -> dict[str, bytes]:
    """Return an adapter's two files by name from a tar's bytes.

    Anything else in it is refused: other names, links, devices, paths. Raises RequestError.
    """
    files: dict[str, bytes] = {}
    place, seen = 0, 0
    while place < len(data):
        header = data[place : place + BLOCK]
        if not header.strip(b"\0"):  # the end
            break
        seen += 1
        if seen > HEADERS:
            raise RequestError(f"the tar holds more than {HEADERS} members; expected two files: {HOW}")
        name, size, kind = _member(header)
        place += BLOCK
        if size > len(data) - place:
            raise RequestError(f"the tar ends inside {short(name)}; send it again")
        if kind in PLAIN:
            plain = name.removeprefix("./")
            if plain not in (HEADER, TENSORS):
                raise RequestError(
                    f"the tar holds {short(name)}; expected {HEADER} and {TENSORS} alone: {HOW}"
                )
            if plain in files:
                raise RequestError(f"the tar holds {plain} twice; expected it once")
            files[plain] = data[place : place + size]
        elif kind not in NOTES and not (kind == FOLDER and name in (".", "./") and not size):
            raise RequestError(
                f"the tar holds {short(name)}, which is no plain file; expected {HEADER} and {TENSORS} "
                f"alone: {HOW}"
            )
        place += -(-size // BLOCK) * BLOCK
    missing = [name for name in (HEADER, TENSORS) if name not in files]
    if missing:
        raise RequestError(f"the tar holds no {' and no '.join(missing)}; send both files: {HOW}")
    return files


def _member(header: bytes) -> tuple[str, int, bytes]:
    """Return name, size and type of a tar's header block. Raises RequestError."""
    try:
        if len(header) < BLOCK:
            raise ValueError
        wanted = int(header[148:156].split(b"\0")[0].strip() or b"x", 8)
        if wanted != sum(header[:148]) + 8 * 32 + sum(header[156:]):
            raise ValueError
        size = int(header[124:136].split(b"\0")[0].strip() or b"0", 8)
        if size < 0:
            raise ValueError
    except ValueError:
        raise RequestError(f"the body is no tar, or a damaged one; expected one from {HOW}") from None
    name = header[:100].split(b"\0")[0]
    ahead = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return (ahead + b"/" + name if ahead else name).decode("utf-8", "replace"), size, header[156:157]
