"""The implementations a promise is checked on."""

from __future__ import annotations

import fakeredis
import pytest

from persistence.store import Store
from tests.support.stores import Backend, created, in_memory, on_redis


@pytest.fixture(params=["memory", "imitation", "server"])
def backend(request: pytest.FixtureRequest, namespace: str) -> Backend:
    """A store whose namespace has not been created: in memory, on an imitation of Redis, on a real server."""
    if request.param == "memory":
        return in_memory(namespace)
    if request.param == "imitation":
        return on_redis(fakeredis.FakeStrictRedis(server=fakeredis.FakeServer()), namespace)
    return on_redis(request.getfixturevalue("redis_client"), namespace)


@pytest.fixture
def store(backend: Backend) -> Store:
    """A store on the clock of its data, created at midnight."""
    return created(backend)
