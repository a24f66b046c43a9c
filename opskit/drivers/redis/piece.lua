-- What each script of a piece begins with: nothing is done where its mark is there, or where another
-- process goes on with the run.
--
-- KEYS: the mark, the key of the run or a fence. ARGV: what that one must have.
local there = redis.call('GET', KEYS[1])
if there then
  return {1, there}
end
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return {2, ''}
end
