-- Give leases back, where they are still held. A lease stays without an owner, so that others see who gave it; a full
-- server drops it, which needs no memory.
--
-- KEYS: leases
-- ARGV: node, then of each lease shard and token
-- Answer: how many were given back.
local leases, node = KEYS[1], ARGV[1]

local given = 0
for place = 2, #ARGV, 2 do
  local shard, mine = ARGV[place], node .. ' ' .. ARGV[place + 1] .. ' '
  local lease = redis.call('HGET', leases, shard)
  if lease and string.sub(lease, 1, #mine) == mine then
    local free = redis.pcall('HSET', leases, shard, string.format(' %s 0', ARGV[place + 1]))
    if type(free) == 'table' and free.err then redis.call('HDEL', leases, shard) end
    redis.call('DEL', leases .. ':' .. shard)
    given = given + 1
  end
end
return given
