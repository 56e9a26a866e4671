"""Any text at all, the kind that nobody thinks of included."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from relay.testing.conformance.samples import HOSTILE_TEXTS

any_text = st.text(st.characters(categories=["L", "M", "N", "P", "S", "Z", "C"])) | st.sampled_from(HOSTILE_TEXTS)

however_busy_the_machine = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""No example is timed: each starts a thread, and other tests may run beside it."""
