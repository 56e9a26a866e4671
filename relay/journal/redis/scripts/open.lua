-- Find out whether this engine has all that a node has seen: accept it as it is now, or begin a new epoch.
--
-- KEYS: meta, tokens
-- ARGV: what the node knows: epoch, generation and head, '' and 0 for a node that knows nothing; the highest token;
--       the offset and SHA-1 of the newest entry that it has read, '' for none;
--       '1' if its epoch cannot go on, since another program has written to the stream, '' otherwise;
--       the name of a new epoch, by how much that begins behind all that anybody has read, the prefix of the keys,
--       milliseconds for which the keys of an old epoch stay; '1' if another node may look first, '' otherwise
-- Answer: WAIT for a node that knows nothing, where nobody has looked at this process of the engine: it may have lost
--         what other nodes know; else {epoch, generation, head, base, generations}; generations are "number:head", a space
--         between: the head of the stream as each began.
local meta, tokens = KEYS[1], KEYS[2]
local epoch, gen, head, token = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local mark, print, spoiled = ARGV[5], ARGV[6], ARGV[7]
local fresh, ahead, prefix, stay, patient = ARGV[8], tonumber(ARGV[9]), ARGV[10], ARGV[11], ARGV[12]
local GENERATIONS = 64

local found = redis.call('HMGET', meta, 'epoch', 'gen', 'head', 'base', 'since', 'rid')
local own = run_id()

if patient ~= '' and epoch == '' and found[1] and found[6] ~= own then return 'WAIT' end

-- Whether another record is now where the node has read one. An entry that is not there was trimmed, or is missed
-- by the head.
local function rewritten()
  if print == '' then return false end
  local entry = redis.call('XRANGE', prefix .. ':s:' .. epoch, mark .. '-0', mark .. '-0')[1]
  if not entry then return false end
  for place = 1, #entry[2], 2 do
    local field = entry[2][place]
    if field == 'body' or field == 'stored' then return redis.sha1hex(entry[2][place + 1]) ~= print end
  end
  return true
end

local function lacks()
  if not found[1] then return true end
  if epoch == '' then return false end
  -- Offsets of a node never go back, so an epoch that begins below what it has read is none for it.
  if found[1] ~= epoch then return tonumber(found[4]) < head end
  if spoiled ~= '' or tonumber(found[3]) < head then return true end
  local oldest
  for number, since in string.gmatch(found[5], '(%d+):(%d+)') do
    oldest = oldest or tonumber(number)
    if tonumber(number) > gen and tonumber(since) < head then return true end
  end
  return oldest > gen + 1 or rewritten()
end

local counted = tonumber(redis.call('GET', tokens) or 0)
token = math.max(token, counted)

if lacks() then
  -- Other nodes may have seen higher tokens; and leases of an older time are those of nodes that lost them since.
  if epoch ~= '' then token = token + ahead end
  redis.call('SET', tokens, string.format('%d', token))
  redis.call('DEL', prefix .. ':l')
  local base = 0
  if found[1] or epoch ~= '' then base = math.max(tonumber(found[3] or 0), head) + ahead end
  for _, old in ipairs({found[1] or epoch, epoch}) do
    if old ~= '' and old ~= fresh then
      -- An entry that wakes the nodes which still read there; it fails where another program has left a later one.
      redis.pcall('XADD', prefix .. ':s:' .. old, string.format('%d-0', base), 'moved', fresh)
      for _, kind in ipairs({'s', 'j', 'u', 'b'}) do redis.call('PEXPIRE', prefix .. ':' .. kind .. ':' .. old, stay) end
    end
  end
  local at = string.format('%d', base)
  redis.call('HMSET', meta, 'epoch', fresh, 'gen', '1', 'head', at, 'base', at, 'since', '1:' .. at, 'rid', own)
  return {fresh, 1, at, at, '1:' .. at}
end

-- Nothing is written where nothing has changed: a node may look at an engine that is full.
if token > counted then redis.call('SET', tokens, string.format('%d', token)) end
if found[6] ~= own then
  found[2] = string.format('%d', tonumber(found[2]) + 1)
  found[5] = found[5] .. ' ' .. found[2] .. ':' .. found[3]
  local _, count = string.gsub(found[5], ':', '')
  if count > GENERATIONS then found[5] = string.match(found[5], ' (.*)') end
  redis.call('HMSET', meta, 'gen', found[2], 'since', found[5], 'rid', own)
end
return {found[1], tonumber(found[2]), found[3], found[4], found[5]}
