"""Bytes of a file as a disk, a network or a hand may change them."""

import random


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The bytes with one to three of them changed, or a part lost, doubled, moved or made up."""
    found = bytearray(content)
    start = rng.randrange(len(found))
    end = min(len(found), start + rng.choice((1, 4, 40, 400)))
    how = rng.randrange(6)
    if how == 0:
        for _ in range(rng.randint(1, 3)):
            found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    elif how == 1:
        del found[start:]
    elif how == 2:
        del found[start:end]
    elif how == 3:
        found[start:start] = found[start:end]
    elif how == 4:
        found[start:end] = rng.randbytes(end - start)
    else:
        part = found[start:end]
        del found[start:end]
        place = rng.randrange(len(found) + 1)
        found[place:place] = part
    return bytes(found)
