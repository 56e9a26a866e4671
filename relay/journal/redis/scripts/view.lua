-- All leases and nodes, as they are now. It reads only.
--
-- A beat is kept as the time at which a key would expire, thousands of years ahead: this is the one number that a server
-- stores without memory, so that a full one ends no lease. It is no time: the clock is added and taken away again, both
-- in this one script, and a second of it is one beat.
--
-- KEYS: leases, nodes
-- ARGV: milliseconds of beat 0
-- Answer: {{shard, "owner token beat at the claim", beat} ...}, {{node, beat} ...}; a beat of -1 is none;
--         the time of day in milliseconds.
local leases, nodes = KEYS[1], KEYS[2]
local zero = tonumber(ARGV[1])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

local function beat(key)
  local left = redis.call('PTTL', key)
  return left > 0 and math.floor((left + now - zero) / 1000 + 0.5) or -1
end

local owned, alive = {}, {}
local found = redis.call('HGETALL', leases)
for at = 1, #found, 2 do owned[#owned + 1] = {found[at], found[at + 1], beat(leases .. ':' .. found[at])} end
for _, node in ipairs(redis.call('SMEMBERS', nodes)) do alive[#alive + 1] = {node, beat(nodes .. ':' .. node)} end
return {owned, alive, now}
