-- Try whether the user may do what putting back takes, with the key of the run and under another
-- name, which nobody ever sees. Where the key of the run is another one nothing is done.
--
-- KEYS: the key of the run, the other name. ARGV: what the key of the run must have.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return false
end
local found = redis.pcall('DUMP', KEYS[1])
if type(found) == 'string' then
  found = redis.pcall('RESTORE', KEYS[2], 1000, found, 'REPLACE')
end
if type(found) == 'table' and found.err then
  return found
end
return redis.pcall('UNLINK', KEYS[2])
