"""One running proxy per module, with the configuration every house starts with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.watch import WatchedHouse


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedHouse]:
    """A proxy with a certificate, a token or a signature, one policy and an upstream that echoes."""
    house = WatchedHouse(tmp_path_factory.mktemp("house"))
    try:
        yield house.start()
    finally:
        house.close()
