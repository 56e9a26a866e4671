"""README.md as a package index shows it: relative links, which lead nowhere there, are made absolute.

Hatchling runs this for each build. A link leads to the file as it was at the tag of the version that is built, in the
repository that `[project.urls]` names as `Source`.
"""

import re
from pathlib import Path
from typing import Any, Final

from hatchling.metadata.plugin.interface import MetadataHookInterface

_CODE: Final = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_RELATIVE: Final = re.compile(r"\]\((?![a-z]+:|#)([^()\s]+)\)")
_SHOWN: Final = (".png", ".svg")
"""An image is shown in place, so its link leads to the bytes and not to a page about them."""


class ReadmeForIndex(MetadataHookInterface):
    """Fills in the dynamic field `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme` to the text of README.md with absolute links."""
        text = (Path(self.root) / "README.md").read_text("utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(text, metadata["urls"]["Source"], f"v{metadata['version']}"),
        }


def absolute(text: str, source: str, tag: str) -> str:
    """Return the Markdown *text* with each relative link leading into the repository *source* at *tag*."""

    def link(found: re.Match[str]) -> str:
        path = found[1]
        return f"]({source}/{'raw' if path.endswith(_SHOWN) else 'blob'}/{tag}/{path})"

    # Code blocks stand at the odd places of the split.
    parts = _CODE.split(text)
    parts[::2] = [_RELATIVE.sub(link, part) for part in parts[::2]]
    return "".join(parts)
