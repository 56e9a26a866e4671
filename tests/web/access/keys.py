"""Keys, settings and times of the tests of access."""

from relay.config.access_settings import AccessSettings, KeySettings
from relay.secret import Secret

__all__ = ["ANN", "BOB", "OPERATOR", "READER", "SETTINGS", "SIGNING_KEY", "bearer"]

ANN = "rlk_ann-0123456789-0123456789-0123456789"
BOB = "rlk_bob-0123456789-0123456789-0123456789"
READER = "rlk_reader-0123456789-0123456789-01234567"
OPERATOR = "rlk_operator-0123456789-0123456789-012345"
SIGNING_KEY = "signing-0123456789-0123456789-0123456789"

USER = "jobs:read jobs:submit jobs:cancel"

SETTINGS = AccessSettings(
    keys=(
        KeySettings(name="ann", key=Secret(ANN), scopes=USER),
        KeySettings(name="bob", key=Secret(BOB), scopes=USER),
        KeySettings(name="reader", key=Secret(READER), scopes="jobs:read", jobs="*"),
        KeySettings(name="operator", key=Secret(OPERATOR), scopes=f"{USER} operate"),
    ),
    signing_key=Secret(SIGNING_KEY),
)


def bearer(token: str) -> dict[str, str]:
    """The header that presents *token*."""
    return {"Authorization": f"Bearer {token}"}
