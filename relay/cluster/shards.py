"""Into which shard a job falls. A shard is what one node owns at a time."""

from collections.abc import Collection
from hashlib import blake2b

__all__ = ["Shards"]


class Shards:
    """*count* shards. All jobs of an upstream that polls its whole account with one request are in the same one.

    *per_account* names these upstreams: two nodes would poll such an account twice. Every node needs the same *count*
    and the same *per_account*, or two nodes poll one job. The shard of a job never changes.
    """

    def __init__(self, count: int, per_account: Collection[str] = ()) -> None:
        self.count: int = count
        self._per_account = frozenset(per_account)

    def is_per_account(self, upstream: str) -> bool:
        """Whether all jobs of *upstream* are in one shard."""
        return upstream in self._per_account

    def of(self, job: str, upstream: str) -> int:
        """The shard of the job with the id *job*, which is on *upstream*: 0 to `count` - 1."""
        # A NUL is in no id and in no name, so that no id is the name of an account as well.
        text = f"\0{upstream}" if upstream in self._per_account else job
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") % self.count
