"""How far ahead a worker may ask: a decision without actions."""

__all__ = ["Window"]


class Window:
    """At most so many batches, and at most so many bytes of answers, but always one batch.

    Args:
        batches_ahead: Batches asked and not yet used.
        max_bytes: Bytes of answers asked and not yet used.
        row_bytes: First estimate of a row's answers, all teachers together.
    """

    def __init__(self, batches_ahead: int, max_bytes: int, row_bytes: float = 0.0) -> None:
        self.batches_ahead, self.max_bytes, self.row_bytes = batches_ahead, max_bytes, row_bytes
        self._measured = False

    def may_ask(self, batches: int, rows: int) -> bool:
        """Whether one more batch may be asked.

        Args:
            batches: Asked and not yet used.
            rows: In those batches and the next one.
        """
        if batches == 0:
            return True
        return batches < self.batches_ahead and rows * self.row_bytes <= self.max_bytes

    def observe(self, num_bytes: int, rows: int) -> None:
        """An answer's size: the largest seen replaces the first estimate."""
        seen = num_bytes / max(1, rows)
        self.row_bytes = max(self.row_bytes, seen) if self._measured else seen
        self._measured = True
