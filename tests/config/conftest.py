"""One folder with the files of the sample configuration for the whole run; tests write only their own names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.sample import WHOLE, issue, materialise


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("config")
    materialise(folder, WHOLE)
    issue(folder / "tls", "partner-ca", ca=True)
    return folder
