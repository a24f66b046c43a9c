-- Write a key unless it is there, and return what it has then.
-- KEYS: the key. ARGV: its value, its life in ms.
-- With a second key, and a third argument that this must have: otherwise nothing is written, and
-- what is returned is nothing.
local there = redis.call('GET', KEYS[1])
if there then
  return there
end
if KEYS[2] and redis.call('GET', KEYS[2]) ~= ARGV[3] then
  return false
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
