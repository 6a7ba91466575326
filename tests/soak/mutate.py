"""Damage of every sort to files, headers, tensors and flags; the same seed does the same damage."""

import json
import random
import struct
from collections.abc import Callable

ODD = (
    "\0",
    "\ufeff",
    "\x1b[31m",
    "\x9b2J",
    "\u202e",
    "\u2028",
    "\r",
    "\t",
    '"',
    '""',
    ",",
    ";",
    "{",
    "[",
    "\\",
    "\\ud800",
    "\n\n",
    "\uff45",
    "é",
    "\U0001d7d9",
    "NaN",
    "Infinity",
    "-0.0",
    "1e999",
    "9" * 400,
    "true",
    "null",
    "O",
    "B-",
    "I-X",
    "=cmd()",
    "../x",
    "%s",
    "[red]",
)
VALUES = (
    None,
    True,
    "",
    "x",
    -1,
    0,
    1.5,
    1e308,
    10**400,
    [],
    {},
    [[]],
    [1, "a", None],
    {"a": 1},
    "9" * 5_000,
    "\u202e\x1b[2J",
)


FLAGS = (
    "--rows",
    "--seed",
    "--limit",
    "--kind",
    "--set",
    "--pooling",
    "--precision",
    "--device",
    "--text",
    "--label",
    "--text-pair",
    "--entities",
    "--template",
    "--tag-names",
    "--encoding",
    "--method",
    "--every",
    "--data-root",
    "--auto",
    "--grid",
    "--range",
    "--random",
    "--seeds",
    "--budget",
    "--methods",
    "--epochs",
    "--split",
    "--recipe",
    "--plugin",
)


def damage(data: bytes, chance: random.Random) -> bytes:
    """One to four mutations of bytes, lines or JSON."""
    for _ in range(chance.randint(1, 4)):
        data = chance.choice(MUTATIONS)(data, chance)
    return data[: 2**21]


def cut(data: bytes, chance: random.Random) -> bytes:
    """The end is lost, or the beginning."""
    at = chance.randint(0, len(data))
    return data[:at] if chance.random() < 0.7 else data[at:]


def double(data: bytes, chance: random.Random) -> bytes:
    """A stretch stands several times."""
    first, last = sorted(chance.randint(0, len(data)) for _ in range(2))
    return data[:last] + data[first:last] * chance.choice((1, 2, 50)) + data[last:]


def flip(data: bytes, chance: random.Random) -> bytes:
    """Some bytes are others."""
    own = bytearray(data)
    for _ in range(chance.randint(1, 8) if own else 0):
        own[chance.randrange(len(own))] = chance.randrange(256)
    return bytes(own)


def insert(data: bytes, chance: random.Random) -> bytes:
    """Odd characters, once or very often."""
    at = chance.randint(0, len(data))
    odd = chance.choice(ODD).encode("utf-8", "surrogatepass") * chance.choice((1, 1, 1, 3, 20_000))
    return data[:at] + odd[: 2**20] + data[at:]


def lines(data: bytes, chance: random.Random) -> bytes:
    """Lines are shuffled, dropped, repeated or joined."""
    own = data.splitlines(keepends=True)
    if not own:
        return data
    sort = chance.randrange(4)
    if sort == 0:
        chance.shuffle(own)
    elif sort == 1:
        del own[chance.randrange(len(own)) :: chance.randint(1, 3)]
    elif sort == 2:
        own += [chance.choice(own)] * chance.choice((1, 100))
    else:
        own = [b"".join(line.rstrip(b"\n") for line in own)]
    return b"".join(own)


def values(data: bytes, chance: random.Random) -> bytes:
    """A value of a JSON line or of a whole JSON file is of another type, a key is missing, doubled or new."""
    try:
        parsed = [json.loads(data)]
        many = False
    except (ValueError, RecursionError):
        try:
            parsed, many = [json.loads(line) for line in data.splitlines()], True
        except (ValueError, RecursionError):
            return data
    where = chance.choice(parsed) if parsed else None
    if isinstance(where, dict) and where:
        name = chance.choice(list(where))
        sort = chance.randrange(3)
        if sort == 0:
            where[name] = chance.choice(VALUES)
        elif sort == 1:
            del where[name]
        else:
            where[chance.choice(ODD)] = chance.choice(VALUES)
    written = [json.dumps(value, ensure_ascii=chance.random() < 0.5) for value in parsed]
    return ("\n".join(written) + "\n" if many else written[0]).encode("utf-8", "surrogatepass")


def nested(data: bytes, chance: random.Random) -> bytes:
    """Deep brackets somewhere."""
    at, depth = chance.randint(0, len(data)), chance.choice((3, 1_000, 100_000))
    return data[:at] + b"[" * depth + b"]" * chance.choice((0, depth)) + data[at:]


def wide(data: bytes, chance: random.Random) -> bytes:
    """Very many columns, keys or tokens on one line."""
    separator = chance.choice((b",", b"\t", b" ", b'","'))
    return (
        data
        + chance.choice((b"a", b"1", b"O", b"")).join([separator] * chance.choice((1_000, 100_000)))
        + b"\n"
    )


def header(data: bytes, chance: random.Random) -> bytes:
    """The length or the JSON in front of a safetensors file is another."""
    if len(data) < 8:
        return data
    (length,) = struct.unpack("<Q", data[:8])
    if chance.random() < 0.5 or length > len(data):
        return (
            struct.pack("<Q", chance.choice((0, 1, min(length + 1, 2**64 - 1), 2**63, 2**64 - 1))) + data[8:]
        )
    changed = values(data[8 : 8 + length], chance)
    return struct.pack("<Q", len(changed)) + changed + data[8 + length :]


def flags(chance: random.Random) -> list[str]:
    """One to three flags with odd values."""
    told: list[str] = []
    for flag in chance.choices(FLAGS, k=chance.randint(1, 3)):
        word = chance.choice(
            (
                *ODD,
                "0",
                "-1",
                "3",
                "1e-3",
                "x",
                "a=b",
                "rate=1e-3..1e-1",
                "rate=1,2",
                "10**9",
                "1000000000",
                "nan",
                "inf",
            )
        )
        named = chance.choice(("", "rate=", "epochs=", "dropout=", "clip=", "length="))
        told += [flag, (named + word).replace("\0", "")]
    return told


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    cut,
    double,
    flip,
    insert,
    lines,
    values,
    nested,
    wide,
    header,
)
