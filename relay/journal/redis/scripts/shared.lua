-- What several scripts need; `Script` puts it in front of them.

-- The process that runs this. A restart and a failover change it, and no data does. '' where INFO is refused, as some
-- services do: each node compares what it has read at each connection then (open.lua).
local function run_id()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
end

-- Why a node that knows *epoch* has to look again before it writes; nil if it need not.
local function outdated(meta, epoch)
  local found = redis.call('HMGET', meta, 'epoch', 'rid')
  if found[1] ~= epoch then return 'EPOCH' end
  if found[2] ~= run_id() then return 'ENGINE' end
end

-- Whether *node* owns *shard*, by a lease with *token*. A lease is "owner token beat".
local function holds(leases, shard, node, token)
  local lease = redis.call('HGET', leases, shard)
  local held = node .. ' ' .. token .. ' '
  return lease and string.sub(lease, 1, #held) == held
end

-- Whether the lease of *shard* still has *token*, whoever asks: each claim has a token of its own.
local function lasts(leases, shard, token)
  local lease = redis.call('HGET', leases, shard)
  return lease and string.match(lease, ' (%d+) %d+$') == token
end

-- Append one entry behind *head*, and return the new head. Offsets are numbers of up to 2^53, written as such: tostring
-- makes 1e+14 of the larger ones.
local function add(stream, most, head, fields)
  redis.call('XADD', stream, 'MAXLEN', '~', most, string.format('%d-0', head + 1), unpack(fields))
  return head + 1
end
