"""The steps that Redis does as one, in Lua. Amounts stay text where they are only passed on: Lua counts in doubles.

Names in Redis, each after the prefix: `m:...` a meter, a hash of `spent` and `reserved`; `leases`, ids by the time they
run out, by the server's clock; `r:<id>` what a lease holds; `x:<id>` that it ran out; `s:<id>` that a claim is settled;
`epoch`, which is another when the server lost what it knew.
"""

from __future__ import annotations

from typing import Final

_FREE: Final = """
local function free(leases, record, id)
  local held = redis.call('GET', record)
  if held then
    for _, part in ipairs(cjson.decode(held)) do
      if redis.call('EXISTS', part[1]) == 1 then redis.call('HINCRBY', part[1], 'reserved', '-' .. part[2]) end
    end
    redis.call('DEL', record)
  end
  redis.call('ZREM', leases, id)
end
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""

RESERVE: Final = (
    _FREE
    + """
-- KEYS: leases, epoch, record, settled, meters. ARGV: id, lease in ms, an epoch if there is none, the prefix;
-- then for each meter: limit, ask, seconds to live, whether asking is spending, whether it has to be seeded.
local now = now_ms()
redis.call('SET', KEYS[2], ARGV[3], 'NX')
local epoch = redis.call('GET', KEYS[2])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)) do
  free(KEYS[1], ARGV[4] .. 'r:' .. id, id)
  redis.call('SET', ARGV[4] .. 'x:' .. id, '1', 'EX', 86400)
end
if redis.call('EXISTS', KEYS[4]) == 1 then return {'gone', 0, 0, 0, epoch} end -- given up before it got here
local waits
for i = 5, #KEYS do
  local at = 5 + (i - 5) * 5
  local known = redis.call('HMGET', KEYS[i], 'spent', 'reserved')
  if not known[1] and ARGV[at + 4] == '1' then return {'seed', i - 5, 0, 0, epoch} end
  local spent, reserved = tonumber(known[1] or '0'), tonumber(known[2] or '0')
  local limit, ask = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  if spent + ask > limit then return {'final', i - 5, known[1] or '0', known[2] or '0', epoch} end
  if spent + reserved + ask > limit and not waits then
    waits = {'wait', i - 5, known[1] or '0', known[2] or '0', epoch}
  end
end
if waits then return waits end
local held = {}
for i = 5, #KEYS do
  local at = 5 + (i - 5) * 5
  if ARGV[at + 3] == '1' then
    redis.call('HINCRBY', KEYS[i], 'spent', ARGV[at + 1])
  else
    redis.call('HINCRBY', KEYS[i], 'spent', '0')
    if ARGV[at + 1] ~= '0' then
      redis.call('HINCRBY', KEYS[i], 'reserved', ARGV[at + 1])
      held[#held + 1] = {KEYS[i], ARGV[at + 1]}
    end
  end
  if ARGV[at + 2] ~= '0' then redis.call('EXPIRE', KEYS[i], ARGV[at + 2]) end
end
redis.call('SET', KEYS[3], cjson.encode(held))
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return {'ok', 0, 0, 0, epoch}
"""
)

SETTLE: Final = (
    _FREE
    + """
-- KEYS: leases, epoch, record, settled, run out, meters. ARGV: id, epoch, seconds to remember it; then what each meter
-- spent. The epoch may be `?`: then this server must have heard of the claim.
if ARGV[2] == '?' and redis.call('EXISTS', KEYS[3]) == 0 and redis.call('EXISTS', KEYS[5]) == 0 then return 0 end
if not redis.call('SET', KEYS[4], '1', 'NX', 'EX', ARGV[3]) then return 0 end
if ARGV[2] ~= '?' and redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
free(KEYS[1], KEYS[3], ARGV[1])
for i = 6, #KEYS do
  local spent = ARGV[i - 2]
  if spent ~= '0' and redis.call('EXISTS', KEYS[i]) == 1 then redis.call('HINCRBY', KEYS[i], 'spent', spent) end
end
return 1
"""
)

SEED: Final = """
-- KEYS: a meter. ARGV: what was spent, seconds to live. Whoever comes first counts.
if redis.call('HSETNX', KEYS[1], 'spent', ARGV[1]) == 1 and ARGV[2] ~= '0' then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
"""

RENEW: Final = (
    _FREE
    + """
-- KEYS: leases. ARGV: lease in ms, ids.
local until_ms = now_ms() + ARGV[1]
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], 'XX', until_ms, ARGV[i]) end
"""
)
