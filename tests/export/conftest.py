from __future__ import annotations

import pytest
import tiny_bert as tiny


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> tiny.TinyBert:
    return tiny.make(tmp_path_factory.mktemp("tiny-bert"))
