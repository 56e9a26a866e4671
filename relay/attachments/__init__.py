"""Sinks as the relay has them: adapted, filtered, entered, watched, and removed again."""

from relay.attachments.attached import AttachedSink, SinkStatus
from relay.attachments.options import Since, SinkOptions

__all__ = ["AttachedSink", "Since", "SinkOptions", "SinkStatus"]
