"""The choice among candidates by latency, load, price and quality: with a clock and chance that tests turn."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import pytest
import yaml

from triton_router.config import ConfigError, loads
from triton_router.errors import Refusal
from triton_router.selection import Balance, ModelCatalog
from triton_router.selection.balance import Pick
from triton_router.vitals import Field, Flight, Vitals


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def document(algorithm: dict[str, Any] | None, **changes: Any) -> dict[str, Any]:
    prices = {"small": (0.1, 0.3), "big": (1.0, 3.0)}
    models = [
        {"name": name, "backend_refs": [{"endpoint": f"127.0.0.1:{port}"}],
         "pricing": {"prompt_per_1m": prices[name][0], "completion_per_1m": prices[name][1]}}
        for port, name in enumerate(prices, 1)
    ]  # fmt: skip
    decision = {"name": "d", "modelRefs": [{"model": "small"}, {"model": "big"}], "algorithm": algorithm}
    cards = [
        {"name": "small", "quality_score": 0.5, "context_window_size": "8K"},
        {"name": "big", "quality_score": 1.0, "context_window_size": "128K", "loras": [{"name": "lora"}]},
    ]
    routing = {"modelCards": cards, "decisions": [decision]}
    observability = {"usage": {"streams": True}}
    return {
        "providers": {"models": models},
        "routing": routing,
        "global": {"services": {"observability": observability}},
        **changes,
    }


class Bench:
    """A decision between `small` and `big`."""

    def __init__(self, algorithm: dict[str, Any] | None, draw: Callable[[], float] | None = None) -> None:
        draw = draw or random.Random(1).random
        self.clock, self.vitals = Clock(), Vitals()
        config = loads(yaml.safe_dump(document(algorithm))).config
        self.balance = Balance(config, self.vitals, draw, self.clock)
        self.catalog = ModelCatalog(config, self.balance)
        self.decision = config.routing.decisions[0]

    def takes(self, **seconds: float) -> None:
        """Let each model have answered a few streams in that time."""
        for name, each in seconds.items():
            for _ in range(10):
                self.vitals.row(name).observe(Field.FIRST, each, self.clock.now)

    def pick(self, session: str | None = None, tokens: int = 0) -> Pick:
        return self.balance.choose(self.decision, session, lambda: tokens)

    def shares(self, number: int = 2000) -> dict[str, float]:
        counts = Counter(self.pick().ref.model for _ in range(number))
        return {name: counts[name] / number for name in ("small", "big")}


LATENCY = {"type": "latency_aware"}


def slo(**bounds: float) -> dict[str, Any]:
    return {"type": "latency_aware", "latency_aware": {"slo": bounds}}


def test_where_nothing_is_known_the_weights_choose() -> None:
    bench = Bench(LATENCY)
    assert bench.pick().reason == "weight"
    assert bench.shares()["small"] == pytest.approx(0.5, abs=0.05)


def test_candidates_that_are_about_as_fast_share_the_requests() -> None:
    bench = Bench(LATENCY)
    bench.takes(small=0.1, big=0.1)
    assert bench.shares()["small"] == pytest.approx(0.5, abs=0.05)
    bench = Bench(LATENCY)
    bench.takes(small=0.1, big=0.11)
    assert 0.5 < bench.shares()["small"] < 0.7


def test_a_slow_candidate_gets_a_few_to_notice_its_recovery() -> None:
    bench = Bench(LATENCY)
    bench.takes(small=0.1, big=1.0)
    assert 0.002 < bench.shares(5000)["big"] < 0.01


def test_one_of_which_nothing_was_heard_for_long_is_asked_at_once_but_by_one_request_at_a_time() -> None:
    bench = Bench(LATENCY, draw=lambda: 0.9)
    bench.takes(small=0.1, big=1.0)
    assert bench.pick().ref.model == "small"
    bench.clock.now += 6
    bench.takes(small=0.1)
    pick = bench.pick()
    assert (pick.ref.model, pick.reason) == ("big", "probe")
    Flight(bench.vitals, "big", None, streams=True, clock=bench.clock)
    assert bench.pick().ref.model == "small"


def test_the_cheapest_is_chosen_as_long_as_it_keeps_the_bounds() -> None:
    bench = Bench({"type": "cost_aware", "cost_aware": {"slo": {"max_ttft_ms": 500}}})
    bench.takes(small=0.1, big=0.1)
    assert bench.shares()["small"] == 1
    bench.takes(small=20.0)
    assert bench.shares()["small"] < 0.02
    small = next(each for each in bench.pick().standings if each.model == "small")
    assert small.breaks == ["max_ttft_ms"]


def test_more_in_flight_than_allowed_breaks_a_bound() -> None:
    bench = Bench({"type": "cost_aware", "cost_aware": {"slo": {"max_inflight": 2}}})
    for _ in range(2):
        assert bench.pick().ref.model == "small"
        Flight(bench.vitals, "small", None, streams=True)
    assert bench.pick().ref.model == "big"


def test_a_prompt_that_does_not_fit_goes_where_it_does() -> None:
    bench = Bench({"type": "cost_aware"})
    assert bench.pick(tokens=8000).ref.model == "small"
    assert bench.pick(tokens=8001).ref.model == "big"


@pytest.mark.parametrize(
    ("weights", "model"), [({"quality": 1}, "big"), ({"cost": 1}, "small"), ({"quality": 3, "cost": 1}, "big")]
)
def test_weights_say_which_factor_counts(weights: dict[str, float], model: str) -> None:
    none = {"quality": 0, "latency": 0, "cost": 0, "load": 0}
    bench = Bench({"type": "multi_factor", "multi_factor": {"weights": none | weights}})
    assert bench.shares(200)[model] == 1


def test_load_counts_what_is_in_flight_what_waits_and_how_full_the_cache_is() -> None:
    only_load = {"quality": 0, "latency": 0, "cost": 0, "load": 1}
    bench = Bench({"type": "multi_factor", "multi_factor": {"weights": only_load}})
    for _ in range(4):
        Flight(bench.vitals, "small", None, streams=False)
    assert bench.shares(200)["big"] == 1
    row = bench.vitals.row("big")
    row[Field.QUEUE], row[Field.KV_USAGE], row[Field.POLLED_AT] = 10, 0.5, bench.clock.now
    assert bench.shares(200)["small"] == 1
    big = next(each for each in bench.pick().standings if each.model == "big")
    assert big.values["load"] == 20
    bench.clock.now += 60
    assert bench.shares(200)["big"] == 1


def test_a_conversation_stays_on_its_model_unless_that_breaks_a_bound() -> None:
    bench = Bench(slo(max_ttft_ms=500))
    bench.takes(small=0.1, big=0.3)
    homes = {str(number): bench.pick(str(number)).ref.model for number in range(200)}
    assert set(homes.values()) == {"small", "big"}
    bench.takes(big=20.0)
    assert {bench.pick(session).ref.model for session in homes} == {"small"}
    bench.clock.now += 60
    bench.takes(small=0.3, big=0.1)
    assert {session: bench.pick(session).ref.model for session in homes} == homes


@pytest.mark.parametrize(("choice", "model"), [("cheapest", "small"), ("first", "big")])
def test_where_no_candidate_keeps_the_bounds_the_operator_says_which(choice: str, model: str) -> None:
    settings = {"slo": {"max_cost_per_1m": 0.01}, "on_no_candidates": choice}
    text = document({"type": "multi_factor", "multi_factor": settings})
    text["routing"]["decisions"][0]["modelRefs"].reverse()
    config = loads(yaml.safe_dump(text)).config
    pick = Balance(config).choose(config.routing.decisions[0])
    assert (pick.ref.model, pick.reason) == (model, "bounds")


def test_or_the_request_is_refused() -> None:
    settings = {"slo": {"max_cost_per_1m": 0.01}, "on_no_candidates": "fail"}
    bench = Bench({"type": "multi_factor", "multi_factor": settings})
    with pytest.raises(Refusal) as refusal:
        bench.pick()
    assert (refusal.value.status, refusal.value.code) == (503, "no_candidate")


def test_percentiles_and_metrics_say_which_latency_counts() -> None:
    bench = Bench({"type": "multi_factor", "multi_factor": {
        "weights": {"quality": 0, "latency": 1, "cost": 0, "load": 0}, "latency_metric": "tpot"}})  # fmt: skip
    bench.takes(small=0.1, big=5.0)
    assert bench.pick().reason == "weight"
    bench.vitals.row("big").observe(Field.TOKEN, 0.01, bench.clock.now)
    bench.vitals.row("small").observe(Field.TOKEN, 0.05, bench.clock.now)
    assert bench.shares()["big"] > 0.98


def test_an_adapter_is_judged_by_itself() -> None:
    text = document(LATENCY)
    text["routing"]["decisions"][0]["modelRefs"][1] = {"model": "big", "lora_name": "lora"}
    config, vitals = loads(yaml.safe_dump(text)).config, Vitals()
    vitals.row("big").observe(Field.FIRST, 0.1, 1000.0)
    vitals.row("big\nlora").observe(Field.FIRST, 9.0, 1000.0)
    vitals.row("small").observe(Field.FIRST, 0.5, 1000.0)
    balance = Balance(config, vitals, lambda: 0.9, lambda: 1000.0)
    assert balance.choose(config.routing.decisions[0]).ref.model == "small"


def test_the_selection_says_why() -> None:
    bench = Bench(LATENCY, draw=lambda: 0.5)
    bench.takes(small=0.1, big=1.0)
    selection = bench.catalog.select(bench.decision)
    assert (selection.model, selection.reason) == ("small", "score")
    best, other = selection.standings
    assert best.values["ttft_ms"] == pytest.approx(100) and best.share == 1
    assert other.ratios["latency"] == pytest.approx(0.11 / 1.01)


def test_the_next_candidate_is_the_next_best() -> None:
    bench = Bench(LATENCY)
    bench.takes(small=1.0, big=0.1)
    assert [each.model for each in bench.catalog.candidates(bench.decision)] == ["big", "small"]
    static = Bench(None)
    assert [each.model for each in static.catalog.candidates(static.decision)] == ["small", "big"]


def test_a_model_that_slows_down_loses_its_share_and_gets_it_back_without_swinging() -> None:
    """Two models, 200 requests a second, one ten times slower for 15 s, in simulated time."""
    bench, chance = Bench(LATENCY), random.Random(7)
    ends: list[tuple[float, int, Flight, bool]] = []
    seconds: list[list[str]] = [[] for _ in range(40)]
    start = bench.clock.now
    moment = 0.0
    while (moment := moment + chance.expovariate(200)) < len(seconds):
        while ends and ends[0][0] <= start + moment:
            bench.clock.now, _, flight, arrives = heappop(ends)
            flight.arrive() if arrives else flight.end()
        bench.clock.now = start + moment
        model = bench.pick().ref.model
        takes = chance.lognormvariate(-3, 0.4) * (10 if model == "big" and 10 <= moment < 25 else 1)
        flight = Flight(bench.vitals, model, None, streams=True, clock=bench.clock)
        heappush(ends, (start + moment + takes, id(flight), flight, True))
        heappush(ends, (start + moment + takes + 0.3, id(flight) + 1, flight, False))
        seconds[int(moment)].append(model)
    share = [models.count("big") / len(models) for models in seconds]
    assert all(0.3 < each < 0.7 for each in share[2:10])
    assert sum(share[12:15]) / 3 < 0.03 and max(share[15:25]) < 0.03
    assert all(0.3 < each < 0.7 for each in share[35:])


# --- configuration -------------------------------------------------------------------------------------------------


def problems(algorithm: dict[str, Any], **changes: Any) -> list[str]:
    return [str(problem) for problem in loads(yaml.safe_dump(document(algorithm, **changes))).warnings]


def test_algorithms_of_others_are_named_and_do_nothing() -> None:
    text = document({"type": "router_dc", "router_dc": {"temperature": 0.07}})
    loaded = loads(yaml.safe_dump(text))
    assert loaded.config.routing.decisions[0].algorithm is None
    assert any("algorithm `router_dc` is not active" in str(each) for each in loaded.warnings)
    assert loaded.coverage is not None and "algorithm" in loaded.coverage.inert


def test_a_misspelt_algorithm_is_an_error() -> None:
    with pytest.raises(ConfigError, match="latency_aware"):
        problems({"type": "latency_awre"})


def test_what_an_algorithm_cannot_compare_is_said() -> None:
    models = document(LATENCY)["providers"]["models"]
    models[0].pop("pricing")
    assert any("small count as free" in each for each in problems({"type": "cost_aware"}, providers={"models": models}))
    models[0]["pricing"] = {"prompt_per_1m": 1, "currency": "EUR"}
    with pytest.raises(ConfigError, match="EUR and USD"):
        problems({"type": "cost_aware"}, providers={"models": models})
    assert any("usage.streams" in each for each in problems(LATENCY, **{"global": {"router": {"drain_seconds": 1}}}))
    assert not any("algorithm" in each for each in problems(LATENCY))


def test_a_file_of_vllm_semantic_router_acts() -> None:
    (decision,) = loads(
        yaml.safe_dump(
            document(
                {"type": "multi_factor", "on_error": "first", "multi_factor": {
                    "weights": {"quality": 0.55, "latency": 0.15, "cost": 0.15, "load": 0.15},
                    "latency_percentile": 95, "on_no_candidates": "cheapest", "expected_output_tokens": 100}}
            )
        )
    ).config.routing.decisions  # fmt: skip
    assert decision.algorithm is not None and decision.algorithm.multi_factor.weights.quality == 0.55


# --- one factor after the other ------------------------------------------------------------------------------------


def lexicographic(*priorities: tuple[str, float], **settings: Any) -> dict[str, Any]:
    steps = [{"factor": factor, "tolerance": tolerance} for factor, tolerance in priorities]
    objective = {"strategy": "lexicographic"} | ({"priorities": steps} if steps else {})
    return {"type": "multi_factor", "multi_factor": {"objective": objective, **settings}}


@pytest.mark.parametrize(
    ("priorities", "model"),
    [
        ((), "big"),
        ((("quality", 0.0), ("cost", 0.0)), "big"),
        ((("quality", 0.5), ("cost", 0.0)), "small"),
        ((("cost", 0.0), ("quality", 0.0)), "small"),
        ((("cost", 1.0), ("quality", 0.0)), "small"),
        ((("latency", 0.1), ("quality", 0.0)), "small"),
        ((("latency", 0.5), ("quality", 0.0)), "big"),
        ((("load", 0.0), ("cost", 0.0)), "small"),
    ],
)
def test_the_best_in_the_first_factor_and_of_those_in_the_next(
    priorities: tuple[tuple[str, float], ...], model: str
) -> None:
    """`big` is twice as good, ten times as dear and a third slower."""
    bench = Bench(lexicographic(*priorities), draw=lambda: 0.99)
    bench.takes(small=0.3, big=0.4)
    pick = bench.pick()
    assert (pick.ref.model, pick.reason) == (model, "score")
    assert [each.share for each in pick.standings] == [1.0, 0.0]


def test_of_equal_ones_the_weights_choose_and_the_bounds_come_first() -> None:
    assert Bench(lexicographic(("quality", 0.5))).shares()["small"] == pytest.approx(0.5, abs=0.05)
    bench = Bench(lexicographic(("quality", 0.0), slo={"max_ttft_ms": 300}))
    bench.takes(small=0.1, big=0.5)
    assert bench.shares()["small"] > 0.98


def test_one_that_fell_behind_in_latency_is_tried_again() -> None:
    bench = Bench(lexicographic(("latency", 0.2), ("quality", 0.0)))
    bench.takes(small=0.1, big=1.0)
    assert 0.002 < bench.shares(5000)["big"] < 0.01
    bench = Bench(lexicographic(("cost", 0.2), ("latency", 0.2)))
    bench.takes(small=0.1, big=1.0)
    assert bench.shares()["big"] == 0


def test_a_request_is_priced_by_what_goes_in_and_what_is_expected_out() -> None:
    algorithm = lexicographic(("cost", 0.0), expected_output_tokens=100)
    bench = Bench(algorithm)
    (first, *_) = bench.pick(tokens=300).standings
    assert first.values["cost_per_1m"] == pytest.approx(0.75 * 0.1 + 0.25 * 0.3)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"strategy": "best"}, "`best` is not one of weighted"),
        ({"priorities": [{"factor": "cost"}, {"factor": "cost"}]}, "`cost` is there twice"),
        ({"priorities": [{"factor": "luck"}]}, "`luck` is not one of"),
        ({"priorities": [{"factor": "cost", "tolerance": 2}]}, "tolerance"),
    ],
)
def test_mistakes_in_objectives_are_named(objective: dict[str, Any], message: str) -> None:
    text = document({"type": "multi_factor", "multi_factor": {"objective": objective}})
    with pytest.raises(ConfigError) as raised:
        loads(yaml.safe_dump(text))
    assert message in str(raised.value)
