"""How many router replicas and GPUs serve so many requests a second at such a p99: a discrete-event model.

A request arrives at random (Poisson), takes a replica's one thread before and after its Triton call, and in between
waits for an instance of the encoder. An instance that is free takes the oldest request and those right behind it of the
same padded length, up to its largest batch, as Triton's dynamic batcher does; others wait. Built on `simpy`.

On one machine all of that shares the cores: with ``cores`` each stage needs one, in turns of a millisecond, as a
scheduler gives them. That is how the model is checked against a measurement: the same run measures CPU times part by
part and how fast the whole is, and says how far off the model was.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import simpy

from export import page
from perf.bare import BareTriton
from perf.ladder import aibrix
from perf.load import arrivals, at, chat_bodies, closed_loop, open_loop, run_precisely
from perf.prompts import PROMPTS
from perf.results import write_results
from perf.testbed import Testbed, command, machine

TEMPLATE = Path(__file__).parent / "templates" / "scale.md.j2"
# Turn of a core, in ms: about what Linux gives where several want it.
TURN = 1.0
# Share of the time that a replica or an instance may be busy in a plan.
BUSIEST = 0.85
Process = Generator[Any, Any, None]


@dataclass(frozen=True)
class Service:
    """The encoder's time for a batch of one padded length: ``first`` ms for a row, ``more`` for each further one."""

    first: float
    more: float

    def ms(self, rows: int) -> float:
        return self.first + self.more * (rows - 1)


@dataclass(frozen=True)
class CapacityModel:
    """What is simulated; times in milliseconds.

    ``lengths`` maps a padded length to its share of the requests and the encoder's time for it. ``router_before`` and
    ``router_after`` are the thread's time around the Triton call, ``beside`` what Envoy, backend and client need a
    request (only where they share the ``cores``).
    """

    lengths: Mapping[int, tuple[float, Service]]
    router_before: float
    router_after: float
    replicas: int = 1
    instances: int = 1
    threads: int = 1
    """Of an instance, which share its work evenly."""
    largest_batch: int = 1
    beside: float = 0.0
    cores: int | None = None
    speed: float = 1.0
    """Share of the ``cores`` that other processes leave."""


@dataclass
class Simulation:
    """What a simulation gave; ``ms`` in order of departure, without the warm-up."""

    ms: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    busy: float = 0.0
    """Share of the time that the encoder's instances were busy."""

    def quantile(self, quantile: float) -> float:
        return at(self.ms, quantile) or 0.0


def simulate(model: CapacityModel, rate: float, requests: int = 20_000, *, seed: int = 1) -> Simulation:
    """``requests`` at ``rate`` a second through ``model``; the first tenth only fills it."""
    world = _World(model, seed)
    moments = arrivals(rate, requests, seed=seed)
    return world.run(moments)


class _World:
    def __init__(self, model: CapacityModel, seed: int) -> None:
        self._model = model
        # Not the numbers that arrivals are drawn from, or long prompts would come after long pauses.
        self._draw = random.Random(f"lengths {seed}")
        self._clock = simpy.Environment()
        self._replicas = [simpy.Resource(self._clock) for _ in range(model.replicas)]
        self._cores = simpy.Resource(self._clock, model.cores) if model.cores else None
        self._waiting: deque[tuple[int, simpy.Event]] = deque()
        self._free = model.instances
        self._busy = 0.0
        self._outcome = Simulation()

    def run(self, moments: Sequence[float]) -> Simulation:
        warm = len(moments) // 10
        for number, (moment, length) in enumerate(zip(moments, self._lengths(len(moments)), strict=True)):
            self._clock.process(self._arrival(moment * 1000, length, number, number >= warm))
        self._clock.run()
        self._outcome.busy = self._busy / (self._clock.now * self._model.instances) if self._clock.now else 0.0
        return self._outcome

    def run_closed(self, clients: int, requests: int) -> float:
        """Requests a second that ``clients`` get done who each ask again as soon as they are answered."""
        lengths = iter(enumerate(self._lengths(requests)))
        for _ in range(clients):
            self._clock.process(self._client(lengths))
        self._clock.run()
        return requests / float(self._clock.now) * 1000

    def _lengths(self, count: int) -> list[int]:
        lengths = list(self._model.lengths)
        return self._draw.choices(lengths, [self._model.lengths[length][0] for length in lengths], k=count)

    def _client(self, lengths: Iterator[tuple[int, int]]) -> Process:
        for number, length in lengths:
            yield from self._request(length, number)

    def _arrival(self, arrives: float, length: int, number: int, counts: bool) -> Process:
        yield self._clock.timeout(arrives)
        yield from self._request(length, number)
        if counts:
            self._outcome.ms.append(self._clock.now - arrives)

    def _request(self, length: int, number: int) -> Process:
        model, replica = self._model, number % len(self._replicas)
        yield from self._work(model.beside)
        yield from self._thread(replica, model.router_before)
        answered = self._clock.event()
        self._waiting.append((length, answered))
        self._dispatch()
        yield answered
        yield from self._thread(replica, model.router_after)

    def _thread(self, replica: int, ms: float) -> Process:
        if ms:
            with self._replicas[replica].request() as thread:
                yield thread
                yield from self._work(ms)

    def _dispatch(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            length = self._waiting[0][0]
            batch: list[simpy.Event] = []
            while self._waiting and self._waiting[0][0] == length and len(batch) < self._model.largest_batch:
                batch.append(self._waiting.popleft()[1])
            self._clock.process(self._execute(length, batch))

    def _execute(self, length: int, batch: list[simpy.Event]) -> Process:
        took = self._model.lengths[length][1].ms(len(batch))
        began = self._clock.now
        threads = self._model.threads
        yield self._clock.all_of([self._clock.process(self._work(took / threads)) for _ in range(threads)])
        self._busy += self._clock.now - began
        self._outcome.batches.append(len(batch))
        for answered in batch:
            answered.succeed()
        self._free += 1
        self._dispatch()

    def _work(self, ms: float) -> Process:
        if self._cores is None:
            yield self._clock.timeout(ms)
            return
        while ms > 0:
            with self._cores.request() as core:
                yield core
                turn = min(ms, TURN)
                yield self._clock.timeout(turn / self._model.speed)
            ms -= turn


def saturation(model: CapacityModel, clients: int = 16, requests: int = 4000) -> float:
    """Requests a second of a closed loop of ``clients``."""
    return _World(model, 1).run_closed(clients, requests)


# --- planning ------------------------------------------------------------------------------------------------------


def plan(
    model: CapacityModel, rate: float, p99: float, *, step: int = 1, most: int = 256, requests: int = 20_000
) -> tuple[CapacityModel, Simulation] | None:
    """The fewest instances, then the fewest replicas, that keep ``p99`` ms at ``rate``; ``None`` beyond ``most``.

    Instances come ``step`` at a time. Nothing is to be busy for more than BUSIEST of the time: beyond it waiting grows
    without bound, and a simulation of some seconds would not show it.
    """
    mean = sum(
        share * service.ms(model.largest_batch) / model.largest_batch for share, service in model.lengths.values()
    )
    fewest_instances = math.ceil(rate / 1000 * mean / BUSIEST / step)
    fewest_replicas = max(1, math.ceil(rate / 1000 * (model.router_before + model.router_after) / BUSIEST))

    def holds(candidate: CapacityModel) -> bool:
        outcome = simulate(candidate, rate, requests)
        return outcome.quantile(0.99) <= p99 and outcome.busy <= BUSIEST

    ample = replace(model, replicas=fewest_replicas * 4)
    steps = _fewest(lambda n: holds(replace(ample, instances=n * step)), max(1, fewest_instances), most // step)
    if steps is None:
        return None
    fixed = replace(model, instances=steps * step)
    replicas = _fewest(lambda n: holds(replace(fixed, replicas=n)), fewest_replicas, most)
    if replicas is None:
        return None
    fewest = replace(fixed, replicas=replicas)
    return fewest, simulate(fewest, rate, requests)


def _fewest(holds: Callable[[int], bool], least: int, most: int) -> int | None:
    """The smallest number from ``least`` on that holds, where more never hurt."""
    upper = least
    while upper > most or not holds(upper):
        if upper >= most:
            return None
        least, upper = upper + 1, min(most, max(upper + 1, upper * 3 // 2))
    while least < upper:
        middle = (least + upper) // 2
        if holds(middle):
            upper = middle
        else:
            least = middle + 1
    return upper


# --- from measurement to table --------------------------------------------------------------------------------------

# What nobody here has measured: the encoder on a GPU. Given as inputs, by padded length; an instance is one stream of
# one GPU, of which config.pbtxt starts two. `python -m perf gpu` measures them on a GPU host; put those in their place.
ASSUMED_GPU = {16: Service(1.0, 0.05), 32: Service(1.0, 0.06), 64: Service(1.1, 0.08), 128: Service(1.3, 0.15),
               256: Service(1.6, 0.30)}  # fmt: skip
INSTANCES_A_GPU = 2
BATCH = 8
# As in `model_repository/minilm/1/model.py`.
MOST_THREADS = 8
RATES = (50, 100, 500, 1000, 2000, 5000)
LIMITS = {"cpu": (60.0, 120.0), "gpu": (10.0, 20.0)}
SHARE_CHECKED = 0.5


@dataclass(frozen=True)
class Costs:
    """Milliseconds of CPU a request, part by part, and what the whole did in the same run."""

    service: dict[int, Service]
    shares: dict[int, float]
    router: float
    beside: float
    idle_ms: float
    """p50 through the whole at one connection."""
    rate: float
    p50: float
    p90: float
    p99: float
    saturation: float
    speed: float
    """Share of the cores that other processes left while as much was asked as could be done."""
    errors: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=1000, help="of each measurement that it rests on")
    parser.add_argument("--rate", type=float, action="append", help="requests a second to plan for; repeat")
    parser.add_argument("--p99", type=float, help="milliseconds that 99 %% of requests must keep to, up to the backend")
    parser.add_argument(
        "--gpu",
        type=gpu_time,
        action="append",
        default=[],
        metavar="TOKENS:MS:MS",
        help="the encoder's time on a GPU for one row, and for each further one of a batch; repeat for each length",
    )


def run(arguments: argparse.Namespace) -> None:
    measure(
        arguments.requests, arguments.out, rates=arguments.rate or RATES, p99=arguments.p99,
        gpu={**ASSUMED_GPU, **dict(arguments.gpu)},
    )  # fmt: skip


def measure(
    requests: int, out: Path, *, rates: Sequence[float] = RATES, p99: float | None = None,
    gpu: Mapping[int, Service] = ASSUMED_GPU,
) -> dict[str, Any]:  # fmt: skip
    """Measure service times and the whole, say how far off the model is, and write ``scale.json`` and a table.

    ``rates`` and ``p99`` are what is asked for (default: RATES and LIMITS), ``gpu`` the encoder's times on a GPU.
    """
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        testbed = Testbed(Path(directory), stack)
        port = testbed.gateway("scale", aibrix())
        testbed.wait_until_routed({port: "MoM"})
        measured = run_precisely(_measure(testbed, port, requests))
    small = one_machine(measured, os.cpu_count() or 1)
    predicted = simulate(small, measured.rate)
    checked = {
        "p50": (predicted.quantile(0.5), measured.p50), "p90": (predicted.quantile(0.9), measured.p90),
        "p99": (predicted.quantile(0.99), measured.p99), "saturation": (saturation(small), measured.saturation),
    }  # fmt: skip
    document = {
        "machine": machine(), "command": command(), "measured": asdict(measured),
        "check": {name: {"model": model, "measured": real, "error": model / real - 1}
                  for name, (model, real) in checked.items()},
        "assumed_gpu": {str(length): asdict(service) for length, service in gpu.items()},
        "capacity": capacity(measured, rates, p99, gpu),
    }  # fmt: skip
    write_results(out, "scale", document, table(document))
    return document


async def _measure(testbed: Testbed, port: int, requests: int) -> Costs:
    bare, bodies = await BareTriton.connect(testbed.triton_port, PROMPTS), chat_bodies(PROMPTS, "MoM")
    await closed_loop(port, bodies, 1, len(PROMPTS) * 2)
    shares = {length: bare.lengths.count(length) / len(bare.lengths) for length in sorted(set(bare.lengths))}
    service = {}
    for length in shares:
        await bare.closed_loop(1, 5, only=length)
        before = testbed.cpu("triton")
        one = await bare.closed_loop(1, max(20, requests // 5), only=length)
        first = (testbed.cpu("triton") - before) * 1000 / len(one.ms)
        before = testbed.cpu("triton")
        many = await bare.closed_loop(BATCH * 2, max(64, requests // 5), only=length)
        # A row of a batch costs what rows cost when so many are asked at once that batches form.
        service[length] = Service(first, min(first, (testbed.cpu("triton") - before) * 1000 / len(many.ms)))
    names = ("router-scale", "envoy-scale", "backend", "triton")
    idle = await closed_loop(port, bodies, 1, requests)
    meter = _Meter(testbed, names)
    flood = await closed_loop(port, bodies, 16, requests)
    spent, speed = meter.read(len(flood.ms))
    beside = spent["envoy-scale"] + spent["backend"] + spent["client"]
    rate = flood.per_second * SHARE_CHECKED
    real = await open_loop(port, bodies, arrivals(rate, requests * 2))
    await bare.close()
    p50, p90, p99 = (at(real.ms, quantile) or 0.0 for quantile in (0.5, 0.9, 0.99))
    return Costs(
        service, shares, spent["router-scale"], beside, at(idle.ms, 0.5) or 0.0, rate, p50, p90, p99,
        flood.per_second, speed, idle.errors + flood.errors + real.errors,
    )  # fmt: skip


class _Meter:
    """CPU that parts and this process use from now on, and what everybody else on the machine takes."""

    def __init__(self, testbed: Testbed, names: Sequence[str]) -> None:
        self._site, self._names = testbed, names
        self._began, self._all, self._ours = time.perf_counter(), _all_cpu(), self._own()

    def _own(self) -> dict[str, float]:
        return {**{name: self._site.cpu(name) for name in self._names}, "client": time.process_time()}

    def read(self, requests: int) -> tuple[dict[str, float], float]:
        """Milliseconds a request of each part and of this process as `client`; share of the cores left by others."""
        spent = {name: now - self._ours[name] for name, now in self._own().items()}
        others = max(0.0, _all_cpu() - self._all - sum(spent.values()))
        offered = (time.perf_counter() - self._began) * (os.cpu_count() or 1)
        return {name: used * 1000 / requests for name, used in spent.items()}, max(0.05, 1 - others / offered)


def _all_cpu() -> float:
    """Seconds of CPU that this machine has spent on anything, its host's share included (proc(5), `stat`)."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK")


def gpu_time(text: str) -> tuple[int, Service]:
    """``TOKENS:MS:MS`` as a padded length and its times. Raises ValueError for anything else."""
    length, first, more = text.split(":")
    return int(length), Service(float(first), float(more))


def one_machine(measured: Costs, cores: int) -> CapacityModel:
    """The machine that was measured: everything on its few cores."""
    return CapacityModel(
        lengths=_lengths(measured, measured.service), router_before=measured.router * 0.7,
        router_after=measured.router * 0.3, threads=min(cores, MOST_THREADS), largest_batch=BATCH,
        beside=measured.beside, cores=cores, speed=measured.speed,
    )  # fmt: skip


def _lengths(measured: Costs, service: Mapping[int, Service]) -> dict[int, tuple[float, Service]]:
    return {length: (share, service[length]) for length, share in measured.shares.items()}


def capacity(
    measured: Costs, rates: Sequence[float], p99: float | None, gpu: Mapping[int, Service]
) -> list[dict[str, Any]]:
    """For each rate and limit of p99: replicas and instances where each has a core or a GPU of its own.

    A replica's time is the measured CPU time of the router's thread, which on other processors is another.
    """
    rows = []
    for kind, service in (("cpu", measured.service), ("gpu", gpu)):
        model = CapacityModel(
            _lengths(measured, service), measured.router * 0.7, measured.router * 0.3, largest_batch=BATCH
        )
        for rate in rates:
            for limit in LIMITS[kind] if p99 is None else (p99,):
                fitting = plan(model, rate, limit, step=INSTANCES_A_GPU if kind == "gpu" else 1,
                             requests=int(max(6000, min(20_000, rate * 4))))  # fmt: skip
                row: dict[str, Any] = {"kind": kind, "rate": rate, "p99_limit": limit}
                if fitting is not None:
                    fitted, outcome = fitting
                    row |= {
                        "replicas": fitted.replicas, "instances": fitted.instances,
                        "gpus": math.ceil(fitted.instances / INSTANCES_A_GPU) if kind == "gpu" else 0,
                        "p50": outcome.quantile(0.5), "p99": outcome.quantile(0.99), "busy": outcome.busy,
                        "batch": sum(outcome.batches) / len(outcome.batches),
                    }  # fmt: skip
                rows.append(row)
                print(f"{kind} {rate}/s under {limit:.0f} ms: {row.get('replicas')} replicas", flush=True)
    return rows


def table(document: dict[str, Any]) -> str:
    """The results as Markdown."""
    return page.render(TEMPLATE, **document)
