-- Show that a node lives, and renew its leases. For leases and nodes that are there already it needs no memory: only the
-- time at which a key would expire is set (view.lua says why).
--
-- KEYS: leases, nodes
-- ARGV: node, its beat, milliseconds of beat 0, how many leases it holds, and of each shard and token; then the nodes
--       that have not beaten for long, which are forgotten
-- Answer: the shards that are not its own any more.
local leases, nodes = KEYS[1], KEYS[2]
local node, beat, zero, held = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local at = string.format('%d', zero + beat * 1000)

-- A full server refuses the first write of a script that needs memory, and none behind a write that needs none.
local function show(key)
  if redis.call('PEXPIREAT', key, at) == 0 then
    redis.call('SET', key, '')
    redis.call('PEXPIREAT', key, at)
  end
end

local lost = {}
for place = 5, 4 + 2 * held, 2 do
  local shard, token = ARGV[place], ARGV[place + 1]
  local lease, mine = redis.call('HGET', leases, shard), node .. ' ' .. token .. ' '
  if lease and string.sub(lease, 1, #mine) == mine then
    show(leases .. ':' .. shard)
  else
    lost[#lost + 1] = tonumber(shard)
  end
end
for place = 5 + 2 * held, #ARGV do
  redis.call('SREM', nodes, ARGV[place])
  redis.call('DEL', nodes .. ':' .. ARGV[place])
end
if redis.call('SISMEMBER', nodes, node) == 0 then
  local added = redis.pcall('SADD', nodes, node)
  if type(added) == 'table' and added.err and held == 0 then return added end
end
show(nodes .. ':' .. node)
return lost
