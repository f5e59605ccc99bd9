"""A list of URLs, one a line."""

import re
from collections.abc import Iterator

from shared.tables.rows import Row
from shared.tables.text import Text

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class UrlListRows:
    """The lines of a list as rows of one column; empty ones and `#` comments are none."""

    kind = "list"
    unit = "Line"
    typed = False

    def __init__(self, text: Text) -> None:
        self._text = text
        self.names = ["url"]
        self.inner: set[int] = set()
        self.skipped = self.beyond = 0

    @property
    def replaced(self) -> int:
        return self._text.replaced

    def __iter__(self) -> Iterator[Row]:
        for line in self._text.lines():
            if (url := line.strip()) and not url.startswith("#"):
                yield Row(self._text.number, [url], len(line))
