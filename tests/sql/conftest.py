from collections.abc import Iterator

import pytest

from tests.sql.spec import Night, open_night


@pytest.fixture
def night() -> Iterator[Night]:
    opened = open_night()
    yield opened
    opened.con.close()
