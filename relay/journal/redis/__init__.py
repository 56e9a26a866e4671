"""A journal in Redis or Valkey, which several nodes share. It needs the extra `redis`."""

from importlib.util import find_spec

from relay.errors import ConfigError

if find_spec("redis") is None:
    raise ConfigError('the client of Redis is not installed; pip install "progress-relay[redis]"')

from relay.journal.redis.journal import RedisJournal

__all__ = ["RedisJournal"]
