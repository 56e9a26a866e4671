-- Append a batch of records: all checks come before the first write, since an error after that undoes nothing.
--
-- KEYS: meta, stream, states, unique, batches, leases
-- ARGV: epoch, node, number of the batch, most entries of the stream; then of each draft: job, seq, body, state in JSON,
--       shard, token, unique, and owner, key, digest, which count with a first record alone
-- Answer: EPOCH, ENGINE; LATE if a newer batch of the node is here already; or "number generation head", and for each
--         refused draft " place=reason" or " place=taken:job". The batch memory holds it, so that a repetition gets it.
local meta, stream, states, unique, batches, leases = unpack(KEYS)
local epoch, node, number, most = unpack(ARGV)
local FIRST, FIELDS = 5, 10

local why = outdated(meta, epoch)
if why then return why end

local remembered = redis.call('HGET', batches, node)
if remembered then
  local newest = tonumber(string.match(remembered, '^%d+'))
  if newest == tonumber(number) then return remembered end
  if newest > tonumber(number) then return 'LATE' end
end

local refused, accepted = {}, {}
local newest, first, held, holder, fallen = {}, {}, {}, {}, {}
for at = FIRST, #ARGV, FIELDS do
  local job, seq, _, _, shard, token, name = unpack(ARGV, at, at + 6)
  local fence = shard .. ' ' .. token
  if held[fence] == nil then held[fence] = holds(leases, shard, node, token) or false end
  if newest[job] == nil then
    local seq, _, began = string.match(redis.call('HGET', states, job) or '', '^(%d+) (%d+) (%d+) ')
    newest[job], first[job] = tonumber(seq or 0), began
  end
  if name ~= '' and holder[name] == nil then holder[name] = redis.call('HGET', unique, name) end
  local reason
  if not held[fence] then
    reason = 'fenced'
  elseif fallen[job] or tonumber(seq) ~= newest[job] + 1 then
    reason = 'hole'
  elseif name ~= '' and holder[name] and holder[name] ~= job then
    reason = 'taken:' .. holder[name]
  end
  if reason then
    fallen[job] = true
    refused[#refused + 1] = string.format(' %d=%s', (at - FIRST) / FIELDS, reason)
  else
    newest[job] = newest[job] + 1
    if name ~= '' then holder[name] = job end
    accepted[#accepted + 1] = at
  end
end

local found = redis.call('HMGET', meta, 'head', 'gen')
local head, gen = tonumber(found[1]), found[2]
local last = {}
for _, at in ipairs(accepted) do
  local job, seq, body, state, _, token, name, owner, key, digest = unpack(ARGV, at, at + FIELDS - 1)
  local fields = {'body', body, 'node', node, 'token', token, 'gen', gen}
  if seq == '1' then
    for field, value in pairs({owner = owner, key = key, digest = digest, unique = name}) do
      if value ~= '' then
        fields[#fields + 1] = field
        fields[#fields + 1] = value
      end
    end
  end
  head = add(stream, most, head, fields)
  first[job] = first[job] or string.format('%d', head)
  last[job] = string.format('%s %d %s %s', seq, head, first[job], state)
  if name ~= '' then redis.call('HSET', unique, name, job) end
end
for job, state in pairs(last) do redis.call('HSET', states, job, state) end
local answer = string.format('%s %s %d%s', number, gen, head, table.concat(refused))
redis.call('HSET', meta, 'head', string.format('%d', head))
redis.call('HSET', batches, node, answer)
return answer
