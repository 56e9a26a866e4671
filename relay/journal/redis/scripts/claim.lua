-- Become the owner of a shard, if its lease is still as it was seen. All checks come before the first write.
--
-- KEYS: leases, tokens, meta, claims, the beat of the lease
-- ARGV: shard, node, beat of this node, milliseconds of beat 0, most entries of the claims; the lease as it was seen:
--       owner, token and beat; a token of '' for none
-- Answer: {token, head}; nothing if the lease is another one, if the journal has no epoch yet, or if no node has looked
--         at this process of the engine: with older data, it would give tokens once more.
local leases, tokens, meta, claims, beats = unpack(KEYS)
local shard, node, beat, zero, most, owner, token, seen = unpack(ARGV)

local found = redis.call('HMGET', meta, 'epoch', 'head', 'rid')
if not found[1] or (found[3] and found[3] ~= run_id()) then return nil end

local lease = redis.call('HGET', leases, shard)
if token == '' then
  if lease then return nil end
else
  local expected = owner .. ' ' .. token .. ' '
  if not lease or string.sub(lease, 1, #expected) ~= expected then return nil end
  local clock, left = redis.call('TIME'), redis.call('PTTL', beats)
  local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
  local current = left > 0 and math.floor((left + now - tonumber(zero)) / 1000 + 0.5)
    or tonumber(string.match(lease, '%d+$'))
  if current ~= tonumber(seen) then return nil end
end

local mine = redis.call('INCR', tokens)
local head = tonumber(found[2])
redis.call('HSET', leases, shard, string.format('%s %d %s', node, mine, beat))
redis.call('SET', beats, '')
redis.call('PEXPIREAT', beats, string.format('%d', tonumber(zero) + tonumber(beat) * 1000))
redis.call('XADD', claims, 'MAXLEN', '~', most, '*', 'shard', shard, 'token', mine, 'node', node, 'epoch', found[1],
  'head', string.format('%d', head))
return {mine, head}
