"""Delivers beside the run, so that a slow or dead server never holds a training step up."""

import threading
import time
from collections.abc import Callable

from raydistill.tracking.verdict import Say

__all__ = ["Courier"]


class Courier:
    """A background thread that empties a journal whenever something was put in.

    After a failure it rests before it tries again; the first failure is said, later ones are not.

    Args:
        attempt: Delivers what is pending; gives the trouble as a clause, or ``None``.
        say: Told the first trouble.
        pause_s: Rest after a failure.
    """

    def __init__(
        self, attempt: Callable[[], str | None], say: Say, *, pause_s: float = 30.0
    ) -> None:
        self._attempt, self._say, self._pause_s = attempt, say, pause_s
        self._changed = threading.Condition()
        self._wanted = False
        self._tickets_drawn = self._tickets_served = 0
        self._resting_until = 0.0
        self._complained = False
        self.closed = False
        self.trouble: str | None = None
        # A daemon: what it has not sent when the process ends is in the journal.
        self._thread = threading.Thread(target=self._work, name="raydistill-tracking", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something was put in; returns at once."""
        with self._changed:
            self._wanted = True
            self._changed.notify_all()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Tries now, resting or not, and waits for the end of that try.

        Args:
            timeout_s: Wait no longer; the try itself goes on.

        Returns:
            Whether everything is delivered.
        """
        with self._changed:
            if self.closed:
                return self.trouble is None
            self._tickets_drawn += 1
            ticket, self._wanted = self._tickets_drawn, True
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: self._tickets_served >= ticket, timeout_s)
            return done and self.trouble is None

    def close(self) -> bool:
        """One last try, then the thread ends.

        Returns:
            Whether everything is delivered.
        """
        delivered = self.flush()
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        self._thread.join()
        return delivered

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self.closed and not self._due():
                    rest_s = self._resting_until - time.monotonic()
                    self._changed.wait(max(rest_s, 0.01) if self._wanted else None)
                if self.closed:
                    return
                ticket, self._wanted = self._tickets_drawn, False
            trouble = self._attempt()
            if trouble is not None and not self._complained:
                self._complained = True
                self._say(trouble)
            with self._changed:
                self.trouble = trouble
                self._tickets_served = ticket
                if trouble is not None:
                    self._wanted = True
                    self._resting_until = time.monotonic() + self._pause_s
                self._changed.notify_all()

    def _due(self) -> bool:
        """Called with the lock held."""
        if self._tickets_drawn > self._tickets_served:
            return True
        return self._wanted and time.monotonic() >= self._resting_until
