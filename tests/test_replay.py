"""Decision records: bounded in number and in time."""

from __future__ import annotations

from triton_router.config.services import ReplaySettings
from triton_router.replay import ReplayLog


def test_a_record_is_found_until_it_is_too_old() -> None:
    now = [0.0]
    records = ReplayLog(ReplaySettings(ttl_seconds=10), lambda: now[0])
    name = records.keep({"decision": "a"})
    assert records.find(name) == {"id": name, "decision": "a"}
    assert records.find("another") is None
    now[0] = 10.0
    assert records.find(name) is None


def test_the_oldest_make_room() -> None:
    records = ReplayLog(ReplaySettings(max_records=3), lambda: 0.0)
    names = [records.keep({"n": number}) for number in range(5)]
    assert [records.find(name) is not None for name in names] == [False, False, True, True, True]
    assert len(set(names)) == 5
