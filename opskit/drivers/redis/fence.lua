-- Move a fence: what was sent by whoever moved it before is not done any more.
--
-- KEYS: the fence, the key of the run. ARGV: what the key of the run must have, life of the fence in
-- ms. Returned is what the fence has now; nothing, and it is not moved, where the key of the run is
-- another one.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return false
end
local now = string.format('%.0f', (tonumber(redis.call('GET', KEYS[1])) or 0) + 1)
redis.call('SET', KEYS[1], now, 'PX', ARGV[2])
return now
