-- Append the states of jobs that a new epoch lacks; those that it has stay as they are.
--
-- KEYS: meta, stream, states, unique, leases
-- ARGV: epoch, node, most entries of the stream, shard, token of its lease, which another node may hold; then of each job:
--       id, seq, the job in JSON, unique
-- Answer: EPOCH, ENGINE, FENCED, or "generation head"
local meta, stream, states, unique, leases = unpack(KEYS)
local epoch, node, most, shard, token = unpack(ARGV)

local why = outdated(meta, epoch)
if why then return why end
if not lasts(leases, shard, token) then return 'FENCED' end

local found = redis.call('HMGET', meta, 'head', 'gen')
local head, gen = tonumber(found[1]), found[2]
for at = 6, #ARGV, 4 do
  local job, seq, stored, name = unpack(ARGV, at, at + 3)
  if redis.call('HEXISTS', states, job) == 0 then
    local fields = {'stored', stored, 'node', node, 'token', token, 'gen', gen}
    if name ~= '' then
      fields[#fields + 1] = 'unique'
      fields[#fields + 1] = name
    end
    head = add(stream, most, head, fields)
    redis.call('HSET', states, job, string.format('%s %d %d %s', seq, head, head, stored))
    if name ~= '' then redis.call('HSETNX', unique, name, job) end
  end
end
redis.call('HSET', meta, 'head', string.format('%d', head))
return gen .. ' ' .. string.format('%d', head)
