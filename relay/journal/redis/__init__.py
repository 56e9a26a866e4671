"""A journal in Redis or Valkey, which several nodes share."""

from importlib.util import find_spec

from relay.errors import ConfigError

if find_spec("redis") is None:
    raise ConfigError('the client of Redis is not installed; pip install "progress-relay[redis]"')
