"""The steps of the Redis store: Lua scripts, each of which Redis runs as one atomic step.

Redis does not undo a script's writes if a later command fails, so everything that could fail comes
first:

- keys of another type: the script checks all types before it writes;
- full memory: Redis refuses only a script's first write, and only if that can take memory. So
  writes that take memory come before those that free it;
- missing rights: :data:`PROBE` tries every command once, on separate keys.

No ``#!lua`` line, which Redis 6 does not know. Integers are never converted to Lua's numbers, which
are floats: they are compared as decimal strings, or counted by Redis. The exceptions are times in
milliseconds and fencing tokens, which fit.
"""

from __future__ import annotations

from hashlib import sha1


class Script:
    """A script, and the digest that identifies it in Redis."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = sha1(source.encode(), usedforsecurity=False).hexdigest()


NEXT_TOKEN = Script("""
-- KEYS: state. ARGV: floor, nonce. Returns the state.
-- A replica that takes over may have missed the last tokens. The clock has not, so the counter
-- never falls behind it. Where it was ahead, a token is issued twice, with another nonce.
redis.call('HSETNX', KEYS[1], 'issued', ARGV[1])
local behind = tonumber(ARGV[1]) - tonumber(redis.call('HGET', KEYS[1], 'issued'))
redis.call('HINCRBY', KEYS[1], 'issued', (behind > 0 and behind or 0) + 1)
redis.call('HSET', KEYS[1], 'issued_nonce', ARGV[2])
return redis.call('HGETALL', KEYS[1])
""")

# The kinds of writes in COMMIT: their two keys, then their values.
#
#   put, delete      record, index        fields and values, alternating; none
#   expire           record, index        seconds since the epoch
#   field, unfield   hash, the same       LaunchDarkly's: field and value; field
#   mark, unmark     string, the same     none
#   text, untext     string, index        Split's, and documents: name and string; name
#   set, unset       set, index           name and members; name
#   part             staging set, index   name, number of the part, members
#   whole            set, index           the staging set, how many members it must have
# In an index, a record is listed by its key without the index's key and a colon.
COMMIT = Script("""
-- KEYS: state, then two keys of each write.
-- ARGV: issued, unpinned_at, each '' if it is not a condition;
--       number of attributes to compare, then name and value of each, '' if it must be absent;
--       number of sets, then name and value of each;
--       number of removals, then their names;
--       then kind, number of values and values of each write.
-- Returns 'OK', or the state if the condition does not hold; nothing is changed then.
local state = KEYS[1]

local equal_from, equal_to = 4, 3 + 2 * tonumber(ARGV[3])
local sets_from, sets_to = equal_to + 2, equal_to + 1 + 2 * tonumber(ARGV[equal_to + 1])
local gone_from, gone_to = sets_to + 2, sets_to + 1 + tonumber(ARGV[sets_to + 1])

local function each(step)
  local at = gone_to + 1
  for i = 2, #KEYS, 2 do
    local kind, values = ARGV[at], tonumber(ARGV[at + 1])
    step(kind, KEYS[i], KEYS[i + 1], at + 2, at + 1 + values)
    at = at + 2 + values
  end
end

local function holds(key, kind)
  local found = redis.call('TYPE', key).ok
  return found == kind or found == 'none'
end

local types = {
  put = {'hash', 'zset'}, delete = {'hash', 'zset'}, expire = {'hash', 'zset'},
  field = {'hash', 'hash'}, unfield = {'hash', 'hash'},
  mark = {'string', 'string'}, unmark = {'string', 'string'},
  text = {'string', 'zset'}, untext = {'string', 'zset'},
  set = {'set', 'zset'}, part = {'set', 'zset'}, whole = {'set', 'zset'}, unset = {'set', 'zset'}
}
local wrong = not holds(state, 'hash') and state or nil
each(function(kind, first, second)
  if not holds(first, types[kind][1]) then wrong = wrong or first end
  if not holds(second, types[kind][2]) then wrong = wrong or second end
end)
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end

-- A set in parts is renamed only with all its members; else the next check assembles it again.
local together = {}
each(function(kind, record, _, from, to)
  if kind == 'part' then
    local first = ARGV[from + 1] == '0'
    local before = first and 0 or together[record] or redis.call('SCARD', record)
    together[record] = before + to - from - 1
  elseif kind == 'whole' and together[ARGV[from]] ~= tonumber(ARGV[from + 1]) then
    wrong = record
  end
end)
if wrong then return redis.error_reply('ERR parts are missing of ' .. wrong) end

local function add(key, from, to)
  for i = from, to, 1000 do
    redis.call('SADD', key, unpack(ARGV, i, math.min(i + 999, to)))
  end
end

local function number(name)
  return tonumber(redis.call('HGET', state, name) or '0')
end

local function lost()
  for i = equal_from, equal_to, 2 do
    if (redis.call('HGET', state, ARGV[i]) or '') ~= ARGV[i + 1] then return true end
  end
  if ARGV[1] ~= '' and (number('issued') or -1) < tonumber(ARGV[1]) then return true end
  return ARGV[2] ~= '' and (number('pinned') or math.huge) > tonumber(ARGV[2])
end

if lost() then return redis.call('HGETALL', state) end

-- Writes that take memory.
each(function(kind, record, index, from)
  if kind == 'put' then
    redis.call('ZADD', index, 0, string.sub(record, #index + 2))
  elseif kind == 'field' then
    redis.call('HSET', record, ARGV[from], ARGV[from + 1])
  elseif kind == 'mark' then
    redis.call('SET', record, '')
  elseif kind == 'text' then
    redis.call('ZADD', index, 0, ARGV[from])
    redis.call('SET', record, ARGV[from + 1])
  elseif kind == 'set' or kind == 'part' then
    redis.call('ZADD', index, 0, ARGV[from])
  end
end)
for i = sets_from, sets_to, 2 do redis.call('HSET', state, ARGV[i], ARGV[i + 1]) end

-- From here on, Redis refuses no command.
for i = gone_from, gone_to do redis.call('HDEL', state, ARGV[i]) end
local expiring = {}
each(function(kind, record, index, from, to)
  if kind == 'put' then
    redis.call('DEL', record)
    for i = from, to, 2 do redis.call('HSET', record, ARGV[i], ARGV[i + 1]) end
  elseif kind == 'delete' then
    redis.call('DEL', record)
    redis.call('ZREM', index, string.sub(record, #index + 2))
  elseif kind == 'unfield' then
    redis.call('HDEL', record, ARGV[from])
  elseif kind == 'set' then
    redis.call('UNLINK', record)
    add(record, from + 1, to)
  elseif kind == 'part' then
    if ARGV[from + 1] == '0' then redis.call('DEL', record) end
    add(record, from + 2, to)
    redis.call('EXPIRE', record, 3600)
  elseif kind == 'whole' then
    redis.call('UNLINK', record) -- freeing half a million members blocks
    redis.call('RENAME', ARGV[from], record)
    redis.call('PERSIST', record)
  elseif kind == 'untext' or kind == 'unset' then
    redis.call('UNLINK', record)
    redis.call('ZREM', index, ARGV[from])
  elseif kind == 'unmark' then
    redis.call('DEL', record)
  elseif kind == 'expire' and redis.call('EXISTS', record) == 1 then
    if redis.call('HSETNX', record, 'expires_at', ARGV[from]) == 1 then
      redis.call('EXPIREAT', record, ARGV[from])
    end
    expiring[index] = true
  end
end)

-- Expired records are still in the index; the oldest come first.
for index in pairs(expiring) do
  for _, key in ipairs(redis.call('ZRANGE', index, 0, 999)) do
    if redis.call('EXISTS', index .. ':' .. key) == 0 then redis.call('ZREM', index, key) end
  end
end
return 'OK'
""")

SCAN = Script("""
-- KEYS: index. ARGV: range for ZRANGEBYLEX, maximum of records, bytes after which a page ends.
-- Returns keys and records, alternating; the record of an expired key is empty.
local page, bytes = {}, 0
for _, key in ipairs(redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])) do
  local record = redis.call('HGETALL', KEYS[1] .. ':' .. key)
  for i = 2, #record, 2 do bytes = bytes + #record[i] end
  page[#page + 1] = key
  page[#page + 1] = record
  if bytes >= tonumber(ARGV[4]) then break end
end
return page
""")

_PROBE = """
-- KEYS: keys that exist only while this runs. Returns 'OK', or the first command's error.
local function calls_of(key) return {
  CALLS
} end
for _, key in ipairs(KEYS) do
  for _, call in ipairs(calls_of(key)) do
    local response = redis.pcall(unpack(call))
    if type(response) == 'table' and response.err then
      redis.pcall('DEL', key)
      local text = response.err
      if string.find(text, 'executing the script') or string.find(text, 'ACL failure') then
        text = 'NOPERM ' .. call[1] .. ': ' .. text
      end
      return redis.error_reply(text)
    end
  end
end
return 'OK'
"""


def _probe(calls: str) -> Script:
    return Script(_PROBE.replace("CALLS", calls))


PROBE = _probe("""{'DEL', key}, {'TYPE', key}, {'EXISTS', key},
  {'HGET', key, 'a'}, {'HGETALL', key},
  {'HDEL', key, 'a'}, {'EXPIREAT', key, 1}, {'ZREM', key, 'a'}, {'ZRANGE', key, 0, 0},
  {'ZRANGEBYLEX', key, '-', '+', 'LIMIT', 0, 1}, {'HSCAN', key, 0},
  {'HSET', key, 'a', 1}, {'HSETNX', key, 'a', 1}, {'HINCRBY', key, 'a', 1}, {'DEL', key},
  {'MGET', key}, {'SET', key, ''}, {'DEL', key}, {'ZADD', key, 0, 'a'}, {'DEL', key},
  {'SSCAN', key, 0}, {'SCARD', key}, {'SADD', key, 'a'}, {'EXPIRE', key, 60},
  {'RENAME', key, key}, {'PERSIST', key}, {'UNLINK', key}""")
PROBE_QUEUES = _probe("""{'DEL', key}, {'HLEN', key}, {'LLEN', key}, {'TTL', key},
  {'LRANGE', key, 0, 0}, {'RPUSH', key, 'a'}, {'LTRIM', key, 1, 0}""")
