"""What is known of each model right now, by all processes of a host: a file that all of them map.

Each process has a *seat* in it, with a *row* of numbers for each model or adapter, and writes to its own seat only.
Readers add the seats up. So nothing is locked, and a process that dies holds nobody up: its successor takes its seat,
and forgets what was in flight. A reader may see half of a change; the next request sees all of it.

Times are ``time.monotonic()``, which is one clock for all processes of a host.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from statistics import NormalDist

from triton_router import shared_memory

# Models and adapters that a process knows numbers of; those beyond are known to itself only.
ROWS = 1024
# Seconds in which an observation loses 63 % of its weight: within three of them a model is judged by what it does now.
MEMORY_SECONDS = 2.0
# Requests that one that waits for long stands against before it counts.
DOUBT = 3.0
# Seconds until another process's first number of a model is noticed.
NOTICED_WITHIN = 0.5
_BYTES = 8


class Field(IntEnum):
    """The numbers of a row. ``NAME`` is a hash; each of the measures has four numbers from its own on."""

    NAME = 0
    # Requests that have been sent and whose answers have not ended.
    IN_FLIGHT = 1
    # Of the backends themselves, as they were last polled: requests that wait, share of the KV cache in use, and when.
    QUEUE = 2
    KV_USAGE = 3
    POLLED_AT = 4
    # Requests without a first byte, by what they wait for, and the sum of the times at which they were sent.
    WAITING_FIRST = 5
    WAITING_FIRST_SINCE = 6
    WAITING_WHOLE = 7
    WAITING_WHOLE_SINCE = 8
    # Seconds to a stream's first text, of an answer in one piece, and for each token of output.
    FIRST = 12
    WHOLE = 16
    TOKEN = 20
    # Failures in a row since the last success, when each last was, when the model may be asked again at the earliest,
    # and requests that try whether it has recovered.
    FAILURES = 24
    FAILED_AT = 25
    SUCCEEDED_AT = 26
    RETRY_AT = 27
    PROBES = 28
    PROBED_AT = 29


FIELDS = 32
_WAITING = {Field.FIRST: Field.WAITING_FIRST, Field.WHOLE: Field.WAITING_WHOLE}
_IN_FLIGHT = (Field.IN_FLIGHT, *(field for first in _WAITING.values() for field in (first, Field(first + 1))))


class Row:
    """One process's numbers of one model, by :class:`Field`."""

    __slots__ = ("numbers",)

    def __init__(self, numbers: memoryview[float]) -> None:
        # Read directly for each request: a method of Python would take longer.
        self.numbers = numbers

    def __getitem__(self, field: int) -> float:
        number: float = self.numbers[field]
        return number

    def __setitem__(self, field: int, number: float) -> None:
        self.numbers[field] = number

    def observe(self, measure: Field, seconds: float, now: float, weight: float = 1.0) -> None:
        """Take ``seconds`` into the measure's decaying sums: weight, first and second moment, and their time."""
        faded = math.exp(-max(now - self[measure + 3], 0.0) / MEMORY_SECONDS)
        self[measure] = self[measure] * faded + weight
        self[measure + 1] = self[measure + 1] * faded + weight * seconds
        self[measure + 2] = self[measure + 2] * faded + weight * seconds * seconds
        self[measure + 3] = now


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure's mean in seconds, its coefficient of variation, and when it was last observed."""

    mean: float
    variation: float
    at: float

    def percentile(self, percent: float) -> float:
        """Seconds that so many percent of requests stay below, if they are distributed log-normally."""
        variance = math.log1p(self.variation**2)
        deviations = NormalDist().inv_cdf(min(max(percent, 1.0), 99.9) / 100)
        return self.mean * math.exp(deviations * math.sqrt(variance) - variance / 2)


class Vitals:
    """The numbers of all models, seen from one ``seat``.

    Without a ``path`` nobody else sees them. A seat that was somebody else's keeps what that one observed.
    """

    def __init__(self, path: str | None = None, seat: int = 0, seats: int = 1, rows: int = ROWS) -> None:
        self._per_seat, self._seat = rows, seat
        size = seats * rows * FIELDS * _BYTES
        self._map = shared_memory.mapped(path, size)
        self._numbers = memoryview(self._map).cast("d")
        self._names = memoryview(self._map).cast("Q")
        self._tables: list[dict[int, Row]] = [{} for _ in range(seats)]
        self._beyond: dict[int, Row] = {}
        self._rows: dict[str, tuple[float, list[Row]]] = {}
        self._read(seat)
        for row in self._tables[seat].values():
            for field in _IN_FLIGHT:
                row[field] = 0.0

    def row(self, name: str) -> Row:
        """This process's own row of a model or adapter; see :func:`named`."""
        key = _key(name)
        table = self._tables[self._seat]
        if (row := table.get(key) or self._beyond.get(key)) is not None:
            return row
        if len(table) == self._per_seat:
            self._rows.pop(name, None)
            if len(self._beyond) >= self._per_seat:
                # Adapters that only an MCP server names are without number.
                self._beyond.clear()
            row = self._beyond[key] = Row(memoryview(bytearray(FIELDS * _BYTES)).cast("d"))
            return row
        self._rows.pop(name, None)
        start = (self._seat * self._per_seat + len(table)) * FIELDS
        # The name last: with it the row is there for others.
        row = table[key] = Row(self._numbers[start : start + FIELDS])
        self._names[start + Field.NAME] = key
        return row

    def rows(self, name: str) -> list[Row]:
        """The rows of a model or adapter in all seats that have one; a new one is noticed within half a second."""
        now = time.monotonic()
        until, rows = self._rows.get(name, (0.0, []))
        if now >= until:
            if len(self._rows) > 4 * self._per_seat:
                self._rows.clear()
            rows = self._all_rows(name)
            self._rows[name] = now + NOTICED_WITHIN, rows
        return rows

    def _all_rows(self, name: str) -> list[Row]:
        key, rows = _key(name), []
        for seat, table in enumerate(self._tables):
            if key not in table and seat != self._seat:
                self._read(seat)
            if key in table:
                rows.append(table[key])
        if key in self._beyond:
            rows.append(self._beyond[key])
        return rows

    def total(self, name: str, field: Field) -> float:
        """The sum of a number over all seats."""
        return sum(row[field] for row in self.rows(name))

    def polled(self, name: str) -> Row | None:
        """The row with the last answer of the model's own backends, if there was one."""
        latest = max(self.rows(name), key=lambda row: row[Field.POLLED_AT], default=None)
        return latest if latest is not None and latest[Field.POLLED_AT] else None

    def estimate(self, name: str, measure: Field, now: float) -> Estimate | None:
        """How long the model takes; ``None`` where nothing was observed.

        Requests that still wait count as soon as they wait longer than those in progress do on average. That average is
        mean * (1 + variation²) / 2, as long ones are more often met in progress (the inspection paradox).
        """
        weight = total = squares = latest = waiting = since = 0.0
        for row in self.rows(name):
            if row[measure]:
                faded = math.exp(-max(now - row[measure + 3], 0.0) / MEMORY_SECONDS)
                weight += row[measure] * faded
                total += row[measure + 1] * faded
                squares += row[measure + 2] * faded
                latest = max(latest, row[measure + 3])
            if measure in _WAITING:
                waiting += row[_WAITING[measure]]
                since += row[_WAITING[measure] + 1]
        ages = max(waiting * now - since, 0.0)
        if weight <= 0.0 or total <= 0.0:
            return Estimate(2 * ages / waiting, 0.0, now) if waiting >= 1 else None
        mean = total / weight
        variation = math.sqrt(max(squares / weight / mean**2 - 1.0, 0.0))
        expected = mean * (1 + variation**2) / 2
        return Estimate(mean * max((DOUBT + ages / expected) / (DOUBT + waiting), 1.0), variation, latest)

    def _read(self, seat: int) -> None:
        """Notice the rows that the process in ``seat`` has added."""
        table = self._tables[seat]
        while len(table) < self._per_seat:
            start = (seat * self._per_seat + len(table)) * FIELDS
            key = self._names[start + Field.NAME]
            if not key:
                return
            table[key] = Row(self._numbers[start : start + FIELDS])


class Flight:
    """One request on its way to a model, or to an adapter of it, from its making to :meth:`end`.

    ``streams`` says whether it asks for a stream. How long an answer took says something of the model only where it is
    one: errors are not observed. Adapters are observed by themselves, and in flight on their base.
    """

    __slots__ = ("_base", "_clock", "_measure", "_row", "_waits", "began")

    def __init__(
        self,
        vitals: Vitals,
        base: str,
        adapter: str | None,
        *,
        streams: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._base, self._row = vitals.row(base), vitals.row(named(base, adapter))
        self._clock, self._measure = clock, Field.FIRST if streams else Field.WHOLE
        self.began, self._waits = clock(), True
        self._base[Field.IN_FLIGHT] += 1
        self._row[_WAITING[self._measure]] += 1
        self._row[_WAITING[self._measure] + 1] += self.began

    def arrive(self, *, well: bool = True) -> None:
        """The first that tells how long it took: a stream's first text, or an answer in one piece."""
        if self._waits:
            self._waits, waiting = False, _WAITING[self._measure]
            self._row[waiting] -= 1
            # From zero again with the last one, so that no error of rounding stays.
            self._row[waiting + 1] = self._row[waiting + 1] - self.began if self._row[waiting] else 0.0
            if well:
                now = self._clock()
                self._row.observe(self._measure, now - self.began, now)

    def tokens(self, seconds: float, count: int) -> None:
        """So many tokens of output took so long."""
        if count > 0:
            self._row.observe(Field.TOKEN, seconds / count, self._clock(), count)

    def end(self) -> None:
        """The answer has ended, or none will come."""
        self.arrive(well=False)
        self._base[Field.IN_FLIGHT] -= 1


def named(base: str, adapter: str | None) -> str:
    """The name of a model's row, or of its adapter's."""
    return f"{base}\n{adapter}" if adapter else base


_key = lru_cache(maxsize=4 * ROWS)(shared_memory.key)
