"""Settings of signals that are made of other signals: weighted sums with named bands, and winners of a contest.

vLLM Semantic Router writes them in three layers, under `routing.projections`; here each is one signal.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from triton_router.config.converted import Converted, Mistake
from triton_router.config.document import Path
from triton_router.config.kinds import Key, SignalSettings
from triton_router.config.plain import items
from triton_router.config.section import Name, Section


class ProjectionInput(Section):
    """One signal's part of a score: ``weight`` times its value."""

    type: Name = Field(description="Kind of signal.")
    name: Name = Field(description="Name of the signal, as rules call it.")
    weight: float = Field(allow_inf_nan=False, description="Factor of the value; a negative one lowers the sum.")
    value_source: Literal["binary", "confidence", "raw", "score"] = Field(
        "binary",
        description="`binary`: `match` or `miss`. `confidence`: the confidence of a match, 0 without one. `raw` or "
        "`score`: the number that the signal measures, with or without a match.",
    )
    match: float = Field(1.0, allow_inf_nan=False, description="Value of a match, for `binary`.")
    miss: float = Field(0.0, allow_inf_nan=False, description="Value without a match, for `binary`.")


class Calibration(Section):
    method: Literal["sigmoid_distance"] = Field(
        "sigmoid_distance", description="A logistic function of the distance to the nearest bound."
    )
    slope: float = Field(12.0, gt=0, description="Its slope.")


class ProjectionOutput(Section):
    """A name for scores within bounds; without bounds, for all of them."""

    name: Name = Field(description="Name that rules refer to.")
    gt: float | None = Field(None, description="Greater than.")
    gte: float | None = Field(None, description="At least.")
    lt: float | None = Field(None, description="Less than.")
    lte: float | None = Field(None, description="At most.")


class ProjectionSignal(SignalSettings):
    """A weighted sum of other signals. Rules name its outputs: `type: projection`, with the name of an output."""

    TYPE, LIST = "projection", "projections"
    PURPOSE = "Weighted sums of signals, for rules of `type: projection`."

    inputs: tuple[ProjectionInput, ...] = Field(
        min_length=1, description="Values to add. An unknown one makes all outputs unknown, unless its weight is 0."
    )
    method: Literal["threshold_bands", "multi_emit"] = Field(
        "threshold_bands", description="The first output that the score fits matches (`threshold_bands`), or all do."
    )
    calibration: Calibration = Field(default_factory=Calibration, description="Confidence of an output.")
    outputs: tuple[ProjectionOutput, ...] = Field(min_length=1, description="Names for ranges of the score, in order.")

    @classmethod
    def rule_names(cls, entry: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(name for each in _mappings(entry, "outputs") if isinstance(name := each.get("name"), str))

    @classmethod
    def reads(cls, entry: Mapping[str, Any]) -> tuple[Key, ...]:
        inputs = ((each.get("type"), each.get("name")) for each in _mappings(entry, "inputs"))
        return tuple((of, name) for of, name in inputs if isinstance(of, str) and isinstance(name, str))


class PartitionSignal(SignalSettings):
    """Competing signals; one wins. Rules name a member as `NAME:MEMBER`."""

    TYPE, LIST = "partition", "partitions"
    PURPOSE = "Contests among signals, for rules of `type: partition`."

    of: Literal["domain", "embedding"] = Field(description="Kind of the members.")
    members: tuple[Name, ...] = Field(min_length=1, description="Names of the signals that compete.")
    semantics: Literal["exclusive", "softmax_exclusive"] = Field(
        "exclusive",
        description="The most confident matching member wins; with `softmax_exclusive` its confidence becomes its "
        "share among the members that match.",
    )
    temperature: float = Field(
        1.0, gt=0, description="Temperature of the softmax; a lower one gives the winner a larger share."
    )
    default: Name | None = Field(None, description="Member that matches if no other does.")

    @model_validator(mode="after")
    def _default_is_a_member(self) -> Self:
        if self.default is not None and self.default not in self.members:
            raise ValueError(f"`default` is `{self.default}`, which is not one of the members")
        return self

    @classmethod
    def rule_names(cls, entry: Mapping[str, Any]) -> tuple[str, ...]:
        members = entry.get("members")
        names = members if isinstance(members, list | tuple) else ()
        return tuple(f"{entry.get('name')}:{member}" for member in names)

    @classmethod
    def reads(cls, entry: Mapping[str, Any]) -> tuple[Key, ...]:
        members = entry.get("members")
        names = members if isinstance(members, list | tuple) else ()
        return tuple((str(entry.get("of")), str(each)) for each in names)


def _mappings(entry: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
    """The mappings, or sections, in the list at ``key``."""
    listed = entry.get(key)
    for each in listed if isinstance(listed, list | tuple) else ():
        if isinstance(each, Mapping):
            yield each
        elif isinstance(each, Section):
            yield each.__dict__


# --- from three layers ---------------------------------------------------------------------------------------------


def adopt(routing: dict[str, Any], path: Path, adopted: Converted) -> None:
    """Make signals of what ``routing``, which stands at ``path``, has under `projections`."""
    layers = routing.get("projections")
    if layers is None:
        routing.pop("projections", None)
    if not isinstance(layers, dict):
        return
    at_layers = (*path, "projections")
    for key in layers.keys() - {"partitions", "scores", "mappings"}:
        adopted.problems.append(
            Mistake((*at_layers, key), f"unknown key `{key}`", key, ("partitions", "scores", "mappings"))
        )
    if routing.get("signals") is None:
        routing["signals"] = {}
    signals = routing["signals"]
    if not isinstance(signals, dict):
        return
    _Scores(layers, signals, path, adopted).add()
    _partitions(routing, layers, path, adopted)
    del routing["projections"]


class _Scores:
    """Scores and the mappings that read them. A score that another one reads is written out: sums are linear."""

    def __init__(self, layers: dict[str, Any], signals: dict[str, Any], routing: Path, adopted: Converted) -> None:
        self._layers, self._signals, self._routing, self._adopted = layers, signals, routing, adopted
        self._path = path = (*routing, "projections")
        self._scores = {str(score.get("name")): (where, score)
                        for where, score in items(layers, ("scores",), below=path)}  # fmt: skip
        self._inputs: list[tuple[Path, dict[str, Any]]] = []

    def add(self) -> None:
        """Add a signal for each mapping."""
        for where, score in self._scores.values():
            if score.get("method") not in (None, "", "weighted_sum"):
                self._mistake((*where, "method"), f"`{score['method']}` is not one of weighted_sum")
        sources: set[str] = set()
        for where, mapping in items(self._layers, ("mappings",), below=self._path):
            entry = dict(mapping)
            source = str(entry.pop("source", None))
            if source not in self._scores:
                self._mistake((*where, "source"), f"no score named `{source}`", source)
                continue
            sources.add(source)
            self._inputs = []
            self._expand(source, 1.0, ())
            listed = self._signals.setdefault("projections", [])
            place: Path = (*self._routing, "signals", "projections", len(listed))
            self._adopted.origin[place] = where
            self._adopted.origin[(*place, "inputs")] = (*self._scores[source][0], "inputs")
            for index, (origin, _) in enumerate(self._inputs):
                self._adopted.origin[(*place, "inputs", index)] = origin
            listed.append(entry | {"inputs": [each for _, each in self._inputs]})
        for name in self._scores.keys() - sources - self._read_by_scores():
            self._mistake(self._scores[name][0], f"no mapping reads the score `{name}`", harmless=True)

    def _expand(self, name: str, factor: float, trail: tuple[str, ...]) -> None:
        where, score = self._scores[name]
        if name in trail:
            self._mistake(where, f"the score `{name}` is made of itself")
            return
        for origin, each in items(score, ("inputs",), below=where):
            weight = each.get("weight")
            scaled = factor * weight if isinstance(weight, int | float) and factor != 1 else weight
            if each.get("type") == "projection" and each.get("value_source") != "confidence":
                inner = str(each.get("name"))
                if inner in self._scores:
                    self._expand(inner, scaled if isinstance(scaled, int | float) else 0.0, (*trail, name))
                    continue
            if each.get("type") == "kb_metric":
                each = self._metric(each, origin)
            self._inputs.append((origin, each | ({} if weight is None else {"weight": scaled})))

    def _metric(self, written: dict[str, Any], origin: Path) -> dict[str, Any]:
        """A number of a knowledge base is a signal of its own here."""
        base, metric = written.get("kb"), written.get("metric")
        name, listed = f"{base}:{metric}", self._signals.setdefault("kb", [])
        if isinstance(listed, list) and not any(isinstance(each, dict) and each.get("name") == name for each in listed):
            self._adopted.origin[(*self._routing, "signals", "kb", len(listed))] = origin
            listed.append({"name": name, "kb": base, "target": {"kind": "metric", "value": metric}})
        rest = {key: value for key, value in written.items() if key not in ("kb", "metric", "value_source")}
        return rest | {"type": "kb", "name": name, "value_source": "raw"}

    def _read_by_scores(self) -> set[str]:
        return {str(each.get("name")) for _, score in self._scores.values() for _, each in items(score, ("inputs",))
                if each.get("type") == "projection"}  # fmt: skip

    def _mistake(self, path: Path, message: str, name: str = "", *, harmless: bool = False) -> None:
        self._adopted.problems.append(Mistake(path, message, name, tuple(self._scores), harmless))


def _partitions(routing: dict[str, Any], layers: dict[str, Any], path: Path, adopted: Converted) -> None:
    """Signals that compete, and rules and sums that name the contest in the place of its members."""
    signals = routing["signals"]
    declared = {"domain": _names(signals, "domains"), "embedding": _names(signals, "embeddings")}
    renamed: dict[tuple[str, str], str] = {}
    for where, partition in items(layers, ("partitions",), below=(*path, "projections")):
        listed = partition.get("members")
        members = [each for each in (listed if isinstance(listed, list) else ()) if isinstance(each, str)]
        of = next((of for of, names in declared.items() if names & set(members)), "domain")
        for index, member in enumerate(members):
            if member not in declared[of]:
                message = f"no {of} signal named `{member}`; all members are of one kind"
                adopted.problems.append(Mistake((*where, "members", index), message, member, tuple(declared[of])))
            renamed.setdefault((of, member), f"{partition.get('name')}:{member}")
        entry = {key: value for key, value in partition.items() if key != "temperature" or value}
        listed = signals.setdefault("partitions", [])
        adopted.origin[(*path, "signals", "partitions", len(listed))] = where
        listed.append({**entry, "of": of})
    if not renamed:
        return

    def rename(leaf: Any) -> None:
        if not isinstance(leaf, dict):
            return
        key = str(leaf.get("type")), str(leaf.get("name"))
        if key in renamed:
            leaf["type"], leaf["name"] = "partition", renamed[key]
        for _, condition in items(leaf, ("conditions",)):
            rename(condition)

    for _, decision in items(routing, ("decisions",)):
        rename(decision.get("rules"))
    for _, projection in items(signals, ("projections",)):
        for _, each in items(projection, ("inputs",)):
            rename(each)


def _names(signals: dict[str, Any], key: str) -> set[str]:
    return {str(each.get("name")) for _, each in items(signals, (key,))}
