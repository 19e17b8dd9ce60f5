"""Random numbers that depend on what they are for, never on when or where they are drawn."""

import hashlib
import struct
from collections.abc import Sequence

__all__ = ["Draws"]

_WORDS = struct.Struct("<8Q")
_WORD_BITS = 64


class Draws:
    """A stream of random numbers, the same for the same key on every machine: BLAKE2b of key and count.

    Args:
        key: What they are for: seeds, epochs, texts.
    """

    def __init__(self, *key: int | str) -> None:
        digest = hashlib.blake2b(digest_size=32)
        for part in key:
            content = f"{type(part).__name__} {part}".encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
        self._key, self._count = digest.digest(), 0
        self._words: list[int] = []

    def _word(self) -> int:
        if not self._words:
            count = self._count.to_bytes(8, "little")
            block = hashlib.blake2b(count, key=self._key, digest_size=_WORDS.size).digest()
            self._words = list(reversed(_WORDS.unpack(block)))
            self._count += 1
        return self._words.pop()

    def fraction(self) -> float:
        """From 0 to below 1."""
        return (self._word() >> 11) * 2.0**-53

    def below(self, number: int) -> int:
        """From 0 to ``number - 1``."""
        return self._word() * number >> _WORD_BITS

    def about(self, expected: float) -> int:
        """A whole number next to ``expected``, which it is in the mean."""
        whole = int(expected)
        return whole + (self.fraction() < expected - whole)

    def some(self, number: int, of: int) -> list[int]:
        """Different places out of ``range(of)``, in order.

        Example:
            >>> Draws(0, "a row").some(3, of=3)
            [0, 1, 2]
        """
        places = list(range(of))
        for place in range(min(number, of)):
            other = place + self.below(of - place)
            places[place], places[other] = places[other], places[place]
        return sorted(places[:number])

    def weighted(self, weights: Sequence[float]) -> int:
        """A place, by weights that are not negative and not all 0."""
        left = self.fraction() * sum(weights)
        for place, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return place
        return max(place for place, weight in enumerate(weights) if weight > 0)  # rounding
