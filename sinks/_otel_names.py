"""The one table of names that the OpenTelemetry sink uses.

The conventions for generative AI are in development, and move: they left the general conventions for a repository of
their own (semantic-conventions-genai 0.1.0). The names that are used are pinned here, so that a backend sees the same
ones whichever package of conventions is installed. Everything else is below `relay.`.
"""

from typing import Final

__all__ = [
    "DURATION",
    "ERROR_TYPE",
    "OPERATION",
    "OPERATION_NAME",
    "OUTPUT_TYPE",
    "OUTPUT_TYPES",
    "PROVIDER_NAME",
    "RECORDS",
    "RESPONSE_ID",
    "SCOPE",
]

SCOPE: Final = "progress_relay"

OPERATION: Final = "generate_content"
"""The operation of a job, unless the sink is configured otherwise: multimodal content is generated."""

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
RESPONSE_ID: Final = "gen_ai.response.id"
OUTPUT_TYPE: Final = "gen_ai.output.type"
DURATION: Final = "gen_ai.client.operation.duration"

OUTPUT_TYPES: Final = {"text": "text", "image": "image", "audio": "speech", "application/json": "json"}
"""The output type of a media type, or of its first half. There is none for video."""

ERROR_TYPE: Final = "error.type"

RECORDS: Final = "relay.records"
"""A counter of records, by type."""
