"""Changes of a checkpoint's configuration."""

import json
from pathlib import Path


def change_json(path: Path, *keys: str, value: object) -> None:
    document = node = json.loads(path.read_text())
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    path.write_text(json.dumps(document))
