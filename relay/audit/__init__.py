"""Whether recordings of streams and consoles agree."""

from relay.audit.compare import Verdict, audit

__all__ = ["Verdict", "audit"]
