"""What was counted since a test began: the metrics are those of the process, which has other tests, too."""

from shared.metrics.definitions import PREFIX, REGISTRY

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples() -> Samples:
    """All samples by name and labels."""
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in REGISTRY.collect()
        for one in family.samples
    }


class Counted:
    def __init__(self) -> None:
        self._before = samples()

    def __call__(self, name: str, **labels: str) -> float:
        """By how much a sample, `name` without the prefix of all, has grown."""
        now = REGISTRY.get_sample_value(PREFIX + name, labels)
        return (now or 0.0) - self._before.get((PREFIX + name, frozenset(labels.items())), 0.0)
