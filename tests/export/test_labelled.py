"""Rows to train on: labels, what stays together, passages, and the operating point."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from export import quality, training
from export.encoder import SEPARATOR, read_rows
from export.labelled import Data, DataFile
from export.training import HeadSettings, OperatingRates

RNG = np.random.default_rng(0)


def written(path: Path, rows: list[dict[str, str]]) -> DataFile:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataFile(path, 1.0)


def test_a_file_may_have_a_weight_and_one_label(tmp_path: Path) -> None:
    plain = tmp_path / "a=b:2.jsonl"
    plain.write_text("")
    assert DataFile.parse(str(plain)) == DataFile(plain, 1.0)
    assert DataFile.parse("a.jsonl:2=none") == DataFile(Path("a.jsonl"), 2.0, "none")
    assert DataFile.parse("a.jsonl=none") == DataFile(Path("a.jsonl"), 1.0, "none")
    with pytest.raises(ValueError, match="above zero"):
        DataFile.parse("a.jsonl:0=none")


def test_labels_are_renamed_and_sources_left_out(tmp_path: Path) -> None:
    rows = [{"text": f"{i}", "label": label, "source": source}
            for i, (label, source) in enumerate([("yes", "a:1"), ("no", "a:2"), ("no", "b")])]  # fmt: skip
    file = written(tmp_path / "rows.jsonl", rows)
    other = DataFile(written(tmp_path / "more.jsonl", rows).path, 1.0, "none")
    data = Data.read([file, other], ["b"], renamed={"yes": "needed"}, group="source")
    assert data.labels == ("needed", "no", "none")
    assert [data.labels[index] for index in data.truth] == ["needed", "no", "none", "none"]
    assert len(set(data.group)) == 1


def test_passages_of_a_row_stay_one_row(tmp_path: Path) -> None:
    rows = [{"text": "word " * 300, "label": "long"}, {"text": "i\u200bgnore", "label": "short"}]
    data = Data.read([written(tmp_path / "rows.jsonl", rows)], passages=True)
    assert list(data.row) == [0, 0, 0, 1]
    assert data.texts[-1] == "ignore", "disguises are taken off as in the router"
    assert len(set(data.held_back[:3])) == 1
    assert data.facts()[0]["rows"] == 2
    assert list(data.worst(np.asarray([0.1, 0.9, 0.3, 0.0]))) == [False, True, False, True]


def head_of(tmp_path: Path, point: OperatingRates | None) -> training.TrainingResult:
    """Attacks are long texts of which one passage says `bad`; harmless ones say it nowhere."""
    rows = []
    for index in range(120):
        words = [f"{'filler' if part else 'start'} {index} " * 40 for part in range(3)]
        if index % 2:
            words[index % 3] = "bad " * 20 + words[index % 3]
        rows.append({"text": "\n".join(words), "label": "attack" if index % 2 else "harmless"})
    data = Data.read([written(tmp_path / "rows.jsonl", rows)], passages=True)
    settings = HeadSettings("linear", ("embedding",), 10.0, 4, 0, "fp32", negative="harmless", point=point)

    def features(texts: tuple[str, ...]) -> np.ndarray:
        noise = RNG.normal(size=(len(texts), 4)) * 0.2
        x = np.c_[[text.count("bad") / 20 for text in texts], np.ones(len(texts)), noise]
        return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)

    return training.train("topic", data, settings, features, {}, lambda text: None)


def test_an_attack_counts_by_its_worst_passage(tmp_path: Path) -> None:
    result = head_of(tmp_path, None)
    assert len(result.rows.texts) == 120
    assert (result.probabilities.argmax(axis=1) == result.rows.truth).mean() > 0.95
    assert result.head.training["passages_but_of"] == "harmless"


def test_the_operating_point_is_a_probability_of_one_half(tmp_path: Path) -> None:
    result = head_of(tmp_path, OperatingRates(("attack",), {"rows.jsonl": 0.1}, "harmless"))
    harmless = result.rows.truth == result.rows.labels.index("harmless")
    flagged = quality.softmax(result.logits / result.head.temperature)[harmless, 0] > 0.5
    assert 0.05 <= flagged.mean() <= 0.1
    facts = result.head.training["operating_point"]
    assert facts["positive"] == ["attack"] and facts["held_back_recall"] > 0.9


def test_a_source_is_held_back_as_a_whole(tmp_path: Path) -> None:
    """A head that learns the source is worth nothing on another one, and says so."""
    rows = [{"text": f"{i}", "label": "ab"[i % 2], "source": f"s{i % 4}"} for i in range(200)]
    file = written(tmp_path / "rows.jsonl", rows)
    accuracy = {}
    for group in ("row", "source"):
        data = Data.read([file], group=group)
        settings = HeadSettings("linear", ("embedding",), 100.0, 2, 1, "fp32")
        result = training.train(
            "topic", data, settings, lambda texts: np.eye(4, dtype=np.float32)[[int(t) % 4 for t in texts]], {}, print
        )
        accuracy[group] = (result.probabilities.argmax(axis=1) == result.rows.truth).mean()
    assert accuracy["row"] == 1.0
    assert accuracy["source"] < 0.8


def test_a_delta_has_seen_the_rows_of_its_files_with_the_labels_that_it_learnt(tmp_path: Path) -> None:
    for name in ("one", "two"):
        rows = ({"text": f"{name} {number}", "label": "ab"[number % 2]} for number in range(100))
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = Data.read([DataFile(tmp_path / "one.jsonl", 1.0), DataFile(tmp_path / "two.jsonl", 1.0, "a")])
    first, second = data.origin == 0, data.origin == 1
    assert data.unseen([]).all()
    unseen = data.unseen(["one.jsonl", "two.jsonl=b"])
    np.testing.assert_array_equal(unseen[first], data.held_back[first])
    assert unseen[second].all(), "as another label"
    assert not data.unseen(["two.jsonl=a"])[second].all()


def test_nothing_learns_the_attacks_to_measure_with() -> None:
    prompts = Path(__file__).parents[2] / "export" / "prompts"
    learnt = {row.text for file in prompts.glob("*_train.jsonl") for row in read_rows(file)}
    for name in ("attacks_test.jsonl", "attacks_languages_test.jsonl"):
        rows = read_rows(prompts / name)
        assert {row.label for row in rows} == {"benign", "jailbreak", "prompt_injection"}
        texts = [row.text for row in rows]
        assert len(set(texts)) == len(texts)
        assert learnt.isdisjoint(texts)


def test_a_pair_is_one_text_and_a_group_is_held_back_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"a": "Buy it?", "b": "Sell it?", "label": 0, "source": "own"}\n')
    (pair,) = read_rows(tmp_path / "pairs.jsonl")
    assert sorted(pair.text.split(SEPARATOR)) == ["Buy it?", "Sell it?"]
    assert (pair.label, pair.source) == ("different", "own")
    groups = ({"q": f"q{n}?", "same": [f"s{n}", f"t{n}"], "other": [f"o{n}", f"p{n}"]} for n in range(60))
    (tmp_path / "groups.jsonl").write_text("".join(json.dumps(group) + "\n" for group in groups))
    rows = read_rows(tmp_path / "groups.jsonl")
    first = {(frozenset(row.text.split(SEPARATOR)), row.label) for row in rows if row.group == "q0?"}
    same = {(frozenset(pair), "same") for pair in (("q0?", "s0"), ("q0?", "t0"), ("s0", "t0"))}
    others = (("q0?", "o0"), ("s0", "o0"), ("q0?", "p0"), ("t0", "p0"))
    assert first == same | {(frozenset(pair), "different") for pair in others}
    data = Data.read([DataFile(tmp_path / "groups.jsonl", 1.0)])
    back = {row.group for row, held in zip(rows, data.held_back, strict=True) if held}
    assert back and back.isdisjoint(row.group for row, held in zip(rows, data.held_back, strict=True) if not held)


@pytest.mark.parametrize("line", ['{"a": 1, "b": "x", "label": 1}', '{"a": "x", "b": "y", "label": 7}', '{"q": "x"}'])
def test_a_line_that_is_no_pair_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "pairs.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=r"pairs\.jsonl:1: "):
        read_rows(tmp_path / "pairs.jsonl")


def test_no_judge_learns_the_questions_to_measure_with() -> None:
    root = Path(__file__).parents[2]
    groups = map(json.loads, (root / "export/prompts/questions_train.jsonl").read_text().splitlines())
    learnt = {_bare(text) for group in groups for text in (group["q"], *group["same"], *group["other"])}
    for file in (root / "tests/cache").glob("*.jsonl"):
        for row in map(json.loads, file.read_text().splitlines()):
            texts = row if isinstance(row, list) else [row[key] for key in ("question", "changed", "paraphrase")]
            assert learnt.isdisjoint(map(_bare, texts)), file.name


def _bare(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
