"""The engines that these tests run on."""

from tests.journal.redis.servers import engine, engine_server

__all__ = ["engine", "engine_server"]
