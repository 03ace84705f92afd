"""What the guards share: each file is parsed once for all of them."""

from collections.abc import Iterator

import pytest

from tests.architecture.layers import forget_parsed


@pytest.fixture(scope="package", autouse=True)
def files_parsed_once() -> Iterator[None]:
    yield
    forget_parsed()
