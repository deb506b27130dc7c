"""The queues that Split's SDKs fill in Redis: taken one batch at a time, under one lease.

Each step is one Lua script. A batch moves from its queue to an in-flight list in one step, and is
deleted from there when it has been delivered; the batch of a run that was killed is taken first by
the next. So no entry is ever in neither place, and two runs never take the same one. (A
Synchronizer reads and trims in two steps: two of them trim entries that the other has not read.)

Unlike those of :mod:`storesync.stores.redis_scripts`, the scripts begin with a write that takes no
memory, after which Redis refuses no other for lack of it: a queue that fills the memory must
still be drained.
"""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING

from flagstore.keys import Key
from flagstore.stores.redis import record_name
from storesync.errors import StoreError
from storesync.stores.redis_scripts import PROBE_QUEUES, Script

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from storesync.stores.redis_client import Argument, Calls

MAX_ENTRIES = 100_000
MAX_BYTES = 64 * 1024 * 1024
"""Limits of a queue, estimated from its oldest entries. Older entries are dropped."""
BATCH_ENTRIES = 5_000
BATCH_BYTES = 4_000_000
"""One batch, and so one request: as many impressions as SDKs post at once, as many bytes of events
as Split's SDK for Go."""
KEEP_S = 86_400
"""TTL of queues and batches. SDKs give a new queue an hour, or none."""
TELEMETRY_S = 3_600
LEASE_MARGIN_S = 10.0
"""How much longer than a run its lease is: a killed run holds up the others until then."""

OPEN = Script("""
-- KEYS: lease, the Synchronizer's two keys, four of telemetry, then queues.
-- ARGV: nonce, milliseconds of the lease, maximum of entries and of bytes, TTL of queues and of
--       telemetry.
-- Returns how many entries of each queue were dropped, 'BUSY', or a key of a Synchronizer.
for i = 2, 3 do
  if redis.call('EXISTS', KEYS[i]) == 1 then return KEYS[i] end
end
local holder = redis.call('MGET', KEYS[1])[1]
if holder and holder ~= ARGV[1] then return 'BUSY' end
for i = 8, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[5]) end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for i = 4, 7 do
  if redis.call('TTL', KEYS[i]) == -1 then redis.call('EXPIRE', KEYS[i], ARGV[6]) end
end
local dropped = {}
for i = 8, #KEYS do
  local count, keep = 0, tonumber(ARGV[3])
  if redis.call('TYPE', KEYS[i]).ok == 'hash' then
    count = redis.call('HLEN', KEYS[i])
    if count > keep then
      redis.call('UNLINK', KEYS[i])
      keep = 0
    end
  else
    count = redis.call('LLEN', KEYS[i])
    local sample, bytes = redis.call('LRANGE', KEYS[i], 0, 99), 0
    for _, entry in ipairs(sample) do bytes = bytes + #entry end
    keep = math.min(keep, math.floor(tonumber(ARGV[4]) * #sample / math.max(bytes, 1)))
    redis.call('LTRIM', KEYS[i], math.max(count - keep, 0), -1)
  end
  dropped[#dropped + 1] = math.max(count - keep, 0)
end
return dropped
""")

TAKE = Script("""
-- KEYS: lease, in-flight list, queue. ARGV: nonce, maximum of entries and of bytes, TTL.
-- Returns the in-flight entries; a hash's are its fields and values, separated by a space.
if redis.call('MGET', KEYS[1])[1] ~= ARGV[1] then return redis.error_reply('ERR lease expired') end
redis.call('EXPIRE', KEYS[2], ARGV[4])
if redis.call('EXISTS', KEYS[2]) == 1 then return redis.call('LRANGE', KEYS[2], 0, -1) end
local most = tonumber(ARGV[2])
if redis.call('TYPE', KEYS[3]).ok == 'hash' then
  local all = redis.call('HGETALL', KEYS[3])
  for i = 1, math.min(#all, 2 * most), 2 do
    redis.call('RPUSH', KEYS[2], all[i] .. ' ' .. all[i + 1])
    redis.call('HDEL', KEYS[3], all[i])
  end
else
  local taken, bytes, full = 0, 0, false
  while not full and taken < most do
    local page = redis.call('LRANGE', KEYS[3], taken, taken + math.min(100, most - taken) - 1)
    local fitting = 0
    for i, entry in ipairs(page) do
      bytes = bytes + #entry
      if bytes > tonumber(ARGV[3]) and taken + i > 1 then break end
      fitting = i
    end
    if fitting > 0 then redis.call('RPUSH', KEYS[2], unpack(page, 1, fitting)) end
    taken = taken + fitting
    full = fitting < 100
  end
  redis.call('LTRIM', KEYS[3], taken, -1)
end
redis.call('EXPIRE', KEYS[2], ARGV[4])
return redis.call('LRANGE', KEYS[2], 0, -1)
""")

FINISH = Script("""
-- KEYS: lease, in-flight list, queue, hash of counts.
-- ARGV: nonce, TTL, number of entries, entries for the queue, then fields and numbers to add.
-- Does nothing the second time.
if redis.call('MGET', KEYS[1])[1] ~= ARGV[1] then return redis.error_reply('ERR lease expired') end
if redis.call('EXISTS', KEYS[2]) == 0 then return 'OK' end
redis.call('DEL', KEYS[2])
local last = 3 + tonumber(ARGV[3])
for i = 4, last, 1000 do
  redis.call('RPUSH', KEYS[3], unpack(ARGV, i, math.min(i + 999, last)))
end
for i = last + 1, #ARGV, 2 do redis.pcall('HINCRBY', KEYS[4], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[3], ARGV[2])
redis.call('EXPIRE', KEYS[4], ARGV[2])
return 'OK'
""")

CLOSE = Script("""
-- KEYS: lease. ARGV: nonce.
if redis.call('MGET', KEYS[1])[1] == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 'OK'
""")


class RedisQueues:
    """The queues of one source, for one run.

    Args:
        calls: Calls the server.
        source: The source's name.
        prefix: How all keys of Split's SDKs begin.
        names: The rest of the queues' keys. The last one is the hash of counts.
    """

    def __init__(self, calls: Calls, source: str, prefix: str, names: Sequence[str]) -> None:
        self._calls = calls
        self._source = source
        self._prefix = prefix
        self._names = names
        self._nonce = token_hex(8)

    def open(
        self, seconds: float, synchronizer: Sequence[str], telemetry: Sequence[str]
    ) -> Mapping[str, int] | None:
        """Take the lease and return how many entries were dropped of each queue.

        None if another run has the lease. Telemetry without a TTL gets one.

        Raises:
            StoreError: also if one of the *synchronizer*'s two keys exists.
        """
        self._calls.script("checking the user's rights", PROBE_QUEUES, [self._key("probe")], [])
        keys = [self._key("lease")]
        keys += map(self._queue, (*synchronizer, *telemetry, *self._names))
        lease_ms = int((seconds + LEASE_MARGIN_S) * 1000)
        limits = [lease_ms, MAX_ENTRIES, MAX_BYTES, KEEP_S, TELEMETRY_S]
        found = self._calls.script("opening queues", OPEN, keys, [self._nonce, *limits])
        if isinstance(found, list):
            return dict(zip(self._names, found, strict=True))
        if found == b"BUSY":
            return None
        raise StoreError(
            f"{found.decode()} exists: a Synchronizer drains these queues, or did. Stop it and "
            'delete that key, or remove "drain" from the source'
        )

    def take(self, queue: str) -> list[bytes]:
        """Return the in-flight batch of a queue, else move the oldest entries there."""
        keys = [self._key("lease"), self._key(queue), self._queue(queue)]
        limits = [BATCH_ENTRIES, BATCH_BYTES, KEEP_S]
        entries: list[bytes] = self._calls.script(
            f"taking {queue}", TAKE, keys, [self._nonce, *limits]
        )
        return entries

    def finish(self, queue: str, rest: Sequence[bytes], counts: Mapping[str, int]) -> None:
        """Delete the in-flight batch, return the *rest* to its queue, and add *counts*."""
        hashed = self._names[-1]
        keys = [self._key("lease"), self._key(queue), self._queue(queue), self._queue(hashed)]
        entries = [] if queue == hashed else rest
        fields: list[Argument] = [part for field in counts.items() for part in field]
        if queue == hashed:
            fields += [part for entry in rest for part in entry.rpartition(b" ")[::2]]
        arguments: list[Argument] = [self._nonce, KEEP_S, len(entries), *entries, *fields]
        self._calls.script(f"finishing {queue}", FINISH, keys, arguments)

    def close(self) -> None:
        """Release the lease."""
        self._calls.script("closing queues", CLOSE, [self._key("lease")], [self._nonce])

    def _queue(self, name: str) -> str:
        return self._prefix + name

    def _key(self, name: str) -> str:
        return record_name(Key(f"{self._source}:$drain", name))
