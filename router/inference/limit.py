"""How many calls may be on their way to Triton at once, found out from how long they take.

More calls in flight than Triton can work on only wait in its queue, and every one behind them waits longer. How many
that is depends on the model, on the GPU and on who else asks it, so it is measured: a gradient limit, as Netflix's
concurrency-limits (``GradientLimit``) and Envoy's adaptive concurrency filter have it. A call beyond the limit is not
queued here; its request goes on without model-backed signals.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from time import perf_counter

# Rows of a call and their padded length: what a call's unloaded time depends on.
Shape = tuple[int, int]

FIRST, LEAST = 64, 4
# The limit moves once in so many seconds, and not on fewer calls.
INTERVAL, ENOUGH = 0.1, 10
# However slow calls are, the limit falls to no less than this part of itself in one step.
STEEPEST = 0.5
# A Triton that has become slower for good has other unloaded times. So often (in seconds) the known ones are let rise
# by this factor, and under load so few calls go out for a while that the true ones are seen.
RELEARN, RISE, WHILE = 60.0, 1.1, 0.2


class Limit:
    """Ask :attr:`full` before a call, then say :meth:`enter`, and at its end :meth:`leave`.

    ``most`` is never exceeded. ``tolerance`` is how many times their unloaded time calls may take on average; ``None``
    keeps the limit at ``most``. ``clock`` gives seconds. Without a lock: for one event loop.
    It has many attributes, as the measurement is all state.
    """

    def __init__(self, most: int, tolerance: float | None, clock: Callable[[], float] = perf_counter) -> None:
        self._most, self._least, self._tolerance, self._clock = most, min(LEAST, most), tolerance, clock
        self._limit = float(most if tolerance is None else min(FIRST, most))
        self._in_flight = 0
        self._reached = self._pressed = False
        self._unloaded: dict[Shape, float] = {}
        self._since = self._relearned = clock()
        self._held_until = 0.0
        self._forget_calls()

    @property
    def calls(self) -> int:
        """The limit, in calls."""
        return int(self._limit)

    @property
    def in_flight(self) -> int:
        """Calls that have not ended."""
        return self._in_flight

    @property
    def full(self) -> bool:
        """Whether no more calls may go out now."""
        allowed = self._least if self._clock() < self._held_until else self.calls
        self._reached |= self._in_flight + 1 >= self.calls
        return self._in_flight >= allowed

    def enter(self) -> None:
        """A call goes out."""
        self._in_flight += 1

    def leave(self, shape: Shape, seconds: float | None) -> None:
        """A call of ``shape`` has ended after ``seconds``; ``None`` if how long it took says nothing."""
        self._in_flight -= 1
        if self._tolerance is None or seconds is None:
            return
        unloaded = self._unloaded[shape] = min(seconds, self._unloaded.get(shape, seconds))
        self._took += seconds
        self._would_take += unloaded
        self._ended += 1
        now = self._clock()
        if self._ended >= ENOUGH and now - self._since >= INTERVAL:
            self._adjust(self._tolerance)
            self._since = now
        if now - self._relearned >= RELEARN:
            self._relearn(now)

    def forget(self) -> None:
        """Calls may take another time from now on: another Triton answers."""
        self._unloaded.clear()
        self._forget_calls()

    def _adjust(self, tolerance: float) -> None:
        gradient = tolerance * self._would_take / self._took if self._took else 1.0
        # The root lets a limit grow that holds nothing up, and leaves room for a short queue where it does.
        fresh = self._limit * max(STEEPEST, min(1.0, gradient)) + sqrt(self._limit)
        # A limit that nobody reaches says nothing of what could be borne.
        if self._reached or fresh < self._limit:
            self._limit = min(max(fresh, float(self._least)), float(self._most))
        self._pressed |= self._reached
        self._forget_calls()

    def _forget_calls(self) -> None:
        self._took = self._would_take = 0.0
        self._ended = 0
        self._reached = False

    def _relearn(self, now: float) -> None:
        self._unloaded = {shape: seconds * RISE for shape, seconds in self._unloaded.items()}
        self._held_until = now + WHILE if self._pressed else 0.0
        self._relearned, self._pressed = now, False
