"""Rotary settings that a version of transformers would lose without a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export import sample as tiny

pytestmark = pytest.mark.slow

Config = dict[str, Any]


def older(config: Config) -> Config:
    """As transformers 4 wrote it."""
    rest = {key: value for key, value in config.items() if key != "rope_parameters"}
    return rest | {"global_rope_theta": 160_000.0, "local_rope_theta": 20_000.0}


def for_all_layers(config: Config) -> Config:
    """As other architectures have it; ModernBERT does not know the key, and takes its constants."""
    rest = {key: value for key, value in config.items() if key != "rope_parameters"}
    return rest | {"rope_theta": 20_000.0}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.embedder(tmp_path_factory.mktemp("rotary") / "trunk")


@pytest.fixture
def load(directory: Path) -> Any:
    from export import network

    config = (directory / "config.json").read_text()

    def load(change: Callable[[Config], Config]) -> Config:
        (directory / "config.json").write_text(json.dumps(change(json.loads(config))))
        loaded: Config = network.load_trunk(directory, "eager").config.to_dict()["rope_parameters"]
        return loaded

    yield load
    (directory / "config.json").write_text(config)


def test_settings_of_both_versions_are_read(load: Callable[[Callable[[Config], Config]], Config]) -> None:
    assert load(lambda config: config)["sliding_attention"]["rope_theta"] == 10_000.0
    assert load(older)["sliding_attention"]["rope_theta"] == 20_000.0


def test_a_setting_that_the_architecture_does_not_know_is_refused(
    load: Callable[[Callable[[Config], Config]], Config],
) -> None:
    with pytest.raises(ValueError, match="config.json says rope_theta 20000.0, the model has None"):
        load(for_all_layers)


def test_transformers_4_is_refused_where_it_would_take_its_defaults(directory: Path) -> None:
    from export import network

    config = json.loads((directory / "config.json").read_text())
    with pytest.raises(network.NetworkError, match=r"transformers 4\.57\.6 ignores without a word"):
        network.check_versions(config, "4.57.6")
    network.check_versions(config, "5.23.0")
    network.check_versions(older(config), "4.57.6")


def test_a_setting_that_was_lost_is_named() -> None:
    from export import network

    parameters = {"full_attention": {"rope_type": "yarn", "factor": 4.0}, "sliding_attention": None}
    network.check_rope({"rope_parameters": parameters}, {"rope_parameters": parameters})
    lost = {"full_attention": {"rope_type": "yarn", "factor": 1.0}}
    with pytest.raises(network.NetworkError, match=r"says full_attention\.factor 4\.0, the model has 1\.0"):
        network.check_rope({"rope_parameters": parameters}, {"rope_parameters": lost})
    flat = {"rope_type": "default", "rope_theta": 5.0}
    network.check_rope({"rope_parameters": flat}, {"rope_parameters": flat})
    network.check_rope({"rope_theta": 5.0}, {"rope_parameters": flat})
    with pytest.raises(network.NetworkError, match=r"says rope_theta 5\.0, the model has 6\.0"):
        network.check_rope({"rope_parameters": flat}, {"rope_parameters": flat | {"rope_theta": 6.0}})
