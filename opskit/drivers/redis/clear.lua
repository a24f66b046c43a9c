-- Remove keys of which nothing is kept, and leave a mark that says how many there were.
--
-- KEYS: the mark, the key of the run, then the keys. ARGV: what the key of the run must have, life
-- of the mark in ms.
--
-- Returned are 1 and the mark that was there before (then nothing is done), 2 where the key of the
-- run is another one (nothing either), or 0 and the mark. A mark is a line with a letter for each
-- key, in no order of theirs: r removed; g gone before; e refused, or there all the same. Then why.
-- What may not be asked afterwards is not removed: it is refused here, before anything is done.
redis.call('EXISTS', KEYS[3])
redis.call('SET', KEYS[1], 'begun', 'PX', ARGV[2])

local function size()
  local found = redis.pcall('DBSIZE')
  return type(found) == 'number' and found
end

local count, why, none, before = #KEYS - 2, '', false, size()
local removed, left = redis.pcall('UNLINK', unpack(KEYS, 3)), 0
if type(removed) == 'table' then
  why = string.gsub(removed.err, '[\r\n]', ' ')
  removed, left, none = 0, count, true
else
  -- Where the database has so many keys fewer they are gone; else each of them is asked for.
  local after = before and size()
  if not after or before - after < removed then
    left = redis.call('EXISTS', unpack(KEYS, 3))
  end
  if left > 0 then
    removed, why = math.max(removed - left, 0), 'the server has keys that it says it has removed'
  end
end
local letters = string.rep('r', removed) .. string.rep('e', left)
local mark = letters .. string.rep('g', count - #letters) .. '\n' .. why .. '\n'
-- Where all is refused nothing was done: then no mark keeps another attempt from it.
redis.pcall('SET', KEYS[1], mark, none and 'PXAT' or 'PX', none and 1 or ARGV[2])
return {0, mark}
