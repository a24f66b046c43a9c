-- Write into a mark what has become of the keys that were removed since begin.lua: as many as there
-- are fewer now. What had ended by itself, and was yet to be cleared away, is among them.
--
-- KEYS: the mark. ARGV: its life in ms, how many keys it is about.
--
-- Returned is how many were removed. If that is none the mark stays as it is: they may all have gone
-- before, or it was refused, which is seen in the answer to UNLINK alone. For the rest as clear.lua.
local before = tonumber(string.match(redis.call('GET', KEYS[1]), '^begun (%d+)$'))
local removed, count = before - redis.call('DBSIZE'), tonumber(ARGV[2])
if removed > 0 then
  local letters = string.rep('r', removed) .. string.rep('g', count - removed)
  redis.call('SET', KEYS[1], letters .. '\n\n', 'PX', ARGV[1])
end
return removed
