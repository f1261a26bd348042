"""A Docker daemon of the tests' own, and which of the guests' promises the main line proves."""

from __future__ import annotations

from collections.abc import Iterator

import docker_server
import pytest

GUESTS_IN_THE_MAIN_LINE = {"test_killed_controller_and_supervisor"}
"""Of the promises of all environments. A guest takes seconds to start: the others are for `make validate-guest`."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the other promises of guests among the long proofs, before these are selected or left out."""
    for item in items:
        name = item.originalname if isinstance(item, pytest.Function) else ""
        is_promise = item.path.name == "test_environments.py" and item.get_closest_marker("guest") is not None
        if is_promise and name not in GUESTS_IN_THE_MAIN_LINE:
            item.add_marker(pytest.mark.validation)


@pytest.fixture(scope="session")
def private_docker() -> Iterator[None]:
    """A Docker daemon of the tests' own, where there is one to start; the user's is left alone."""
    with docker_server.preferred():
        yield
