import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    """What lies in this folder is run by `make test-system`, and not by `make test`."""
    item.add_marker(pytest.mark.system)
