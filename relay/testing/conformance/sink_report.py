"""What came of a check: the laws that hold, and those that were not tried."""

from collections.abc import Mapping

from msgspec import Struct

__all__ = ["SinkReport"]


class SinkReport(Struct, frozen=True, kw_only=True):
    """The laws that *sink* keeps, and those that were not exercised, each with the reason.

    A law that was not exercised may be broken: `str()` lists them, and a test may require some
    (`assert "drains" in report.kept`).
    """

    sink: str
    kept: tuple[str, ...]
    not_exercised: Mapping[str, str]

    def __str__(self) -> str:
        by_reason: dict[str, list[str]] = {}
        for law, reason in self.not_exercised.items():
            by_reason.setdefault(reason, []).append(law)
        missing = "".join(f"\n  {', '.join(laws)}: {reason}" for reason, laws in by_reason.items())
        head = f"{self.sink} keeps {len(self.kept)} laws"
        return (
            f"{head}; {len(self.not_exercised)} were not exercised:{missing}"
            if missing
            else f"{head}, all that there are"
        )
