"""One Prefect server for all tests that need one: it takes seconds to start."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def prefect_database() -> Iterator[Path]:
    """The folder in which a temporary server, used by every flow of this session from now on, keeps what it knows."""
    from prefect.settings import get_current_settings
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=300):
        url = get_current_settings().server.database.connection_url
        assert url is not None
        yield Path(url.get_secret_value().split("///", 1)[1]).parent
