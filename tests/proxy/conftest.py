"""The two event loops, and one proxy on each for all tests of a module."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.proxy.inside import LOOPS, InsideHouse, in_haste


@pytest.fixture(params=LOOPS)
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """How to make an event loop of each kind."""
    return LOOPS[request.param]


@pytest.fixture(scope="module", params=LOOPS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InsideHouse]:
    """A proxy on an event loop of each kind, up for the whole module."""
    house = InsideHouse(tmp_path_factory.mktemp("house"), LOOPS[request.param])
    with pytest.MonkeyPatch.context() as patched:
        in_haste(patched)
        try:
            yield house.start()
        finally:
            house.close()


@pytest.fixture
def house(running: InsideHouse) -> Iterator[InsideHouse]:
    """The running proxy, as if it were new."""
    running.reset()
    yield running
    running.reset()
