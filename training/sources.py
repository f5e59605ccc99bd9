"""Where the pictures and words come from: every package with its licence, and how to fetch them.

Only sources whose licence lets the weights be shipped under attribution are trained on (weight > 0);
the others are for evaluation. Needs `npm`; `apt-get` and `dpkg` for the three Debian packages.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """One set of pictures. `weight` is its share when training samples a picture: 0 keeps it out."""

    name: str
    package: str
    licence: str
    author: str
    kind: str  # "emoji", "flag", "icon" (a name only), "clipart" or "photo"
    weight: float = 0.0
    mono: bool = False


# fmt: off
PICTURES = (
    Source("noto", "@iconify-json/noto@1.2.9", "Apache-2.0", "Google", "emoji", 1),
    Source("noto-v1", "@iconify-json/noto-v1@1.2.5", "Apache-2.0", "Google", "emoji", 1),
    Source("fluent-emoji", "@iconify-json/fluent-emoji@1.2.7", "MIT", "Microsoft", "emoji", 1),
    Source("fluent-emoji-flat", "@iconify-json/fluent-emoji-flat@1.2.6", "MIT", "Microsoft", "emoji", 1),
    Source("fluent-emoji-3d", "@lobehub/fluent-emoji-3d@1.1.0", "MIT", "Microsoft", "emoji", 0.7),
    Source("emojione", "@iconify-json/emojione@1.2.3", "CC-BY-4.0", "EmojiOne", "emoji", 1),
    Source("fxemoji", "@iconify-json/fxemoji@1.2.2", "Apache-2.0", "Mozilla", "emoji", 1),
    Source("streamline-emojis", "@iconify-json/streamline-emojis@1.2.4", "CC-BY-4.0", "Streamline", "emoji", 1),
    Source("fluent-emoji-high-contrast", "@iconify-json/fluent-emoji-high-contrast@1.2.6", "MIT", "Microsoft", "emoji", 0.35, mono=True),
    Source("emojione-monotone", "@iconify-json/emojione-monotone@1.2.1", "CC-BY-4.0", "EmojiOne", "emoji", 0.35, mono=True),
    Source("flag-icons", "flag-icons@7.5.0", "MIT", "Panayiotis Lipiridis", "flag", 0.8),
    Source("circle-flags", "@iconify-json/circle-flags@1.2.11", "MIT", "HatScripts", "flag", 0.5),
    Source("cif", "@iconify-json/cif@1.2.7", "CC0-1.0", "creativeLabs", "flag", 0.8),
    Source("flat-color-icons", "@iconify-json/flat-color-icons@1.2.3", "MIT", "Icons8", "icon", 0.7),
    Source("fluent-color", "@iconify-json/fluent-color@1.2.21", "MIT", "Microsoft", "icon", 0.7),
    Source("streamline-ultimate-color", "@iconify-json/streamline-ultimate-color@1.2.2", "CC-BY-4.0", "Streamline", "icon", 0.4),
    Source("streamline-freehand-color", "@iconify-json/streamline-freehand-color@1.2.2", "CC-BY-4.0", "Streamline", "icon", 0.4),
    Source("openclipart", "openclipart-png", "public domain", "Openclipart's authors", "clipart", 1.2),
    Source("openmoji", "openmoji@17.0.0", "CC-BY-SA-4.0", "OpenMoji", "emoji"),
    Source("twemoji", "emoji-datasource-twitter@16.0.0", "CC-BY-4.0", "Twitter", "emoji"),
    Source("stamps", "tuxpaint-stamps-default", "GPL-2.0", "Tux Paint's authors", "photo"),
)
# fmt: on
WORDS = (
    "emoji-datasource@16.0.0",  # MIT
    "unicode-emoji-json@0.9.0",  # MIT
    "emojilib@4.0.3",  # MIT
    "cldr-annotations-full@48.2.0",  # Unicode-3.0
)
DEBIAN = ("openclipart-png", "openclipart-svg", "wordnet-base", "tuxpaint-stamps-default")
BY_NAME = {source.name: source for source in PICTURES}


class Raw:
    """The fetched packages below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.debian = folder / "debian" / "usr" / "share"

    def npm(self, package: str) -> Path:
        return self.folder / "node_modules" / package.rsplit("@", 1)[0]

    def json(self, package: str, path: str) -> object:
        return json.loads((self.npm(package) / path).read_text())

    def iconify(self, source: Source) -> Iterator[tuple[str, str]]:
        """Name and SVG text of every icon of an Iconify set; `currentColor` becomes black."""
        data = json.loads((self.npm(source.package) / "icons.json").read_text())
        for name, icon in data["icons"].items():
            if icon.get("hidden"):
                continue
            left, top = icon.get("left", 0), icon.get("top", 0)
            width = icon.get("width", data.get("width", 16))
            height = icon.get("height", data.get("height", 16))
            body = icon["body"].replace("currentColor", "#000")
            yield (
                name,
                '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
                f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{body}</svg>',
            )

    def fetch(self) -> None:
        """Get every package that is not there yet. Raises SystemExit with what is missing."""
        for tool in ("npm", "apt-get", "dpkg"):
            if shutil.which(tool) is None:
                raise SystemExit(f"{tool} is needed to fetch the pictures and is not on the PATH")
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._install()
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"{error.cmd[0]} failed, see above (is `apt-get update` needed?)") from None

    def _install(self) -> None:
        packages = [s.package for s in PICTURES if s.package not in DEBIAN] + list(WORDS)
        npm = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", "."]
        subprocess.run([*npm, *packages], cwd=self.folder, check=True)
        if not self.debian.exists():
            subprocess.run(["apt-get", "download", *DEBIAN], cwd=self.folder, check=True)
            for archive in sorted(self.folder.glob("*.deb")):
                subprocess.run(["dpkg", "-x", archive.name, "debian"], cwd=self.folder, check=True)
