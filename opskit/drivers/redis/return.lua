-- Put messages back where they were moved from and leave a mark that says what became of each, as a
-- whole.
--
-- KEYS: as for moving. ARGV: what the key of the run must have, life of the mark in ms, then for each
-- message, the newest first, the number of its list, its bytes, and those of the next older one that
-- was not moved ('' where there was none).
--
-- It goes before that one, or where what is taken next stands, if that has been taken by now. The
-- letters: r put back; b it is not where it was moved to, so somebody has it; e refused; - not come to.
redis.call('SET', KEYS[1], 'begun', 'PX', ARGV[2])

local letters, why = {}, ''

local function refused(answer)
  if type(answer) == 'table' and answer.err then
    why = string.gsub(answer.err, '[\r\n]', ' ')
    return true
  end
end

local function one(number)
  local list = tonumber(ARGV[3 * number])
  local bytes, older = ARGV[3 * number + 1], ARGV[3 * number + 2]
  local home, away = KEYS[2 * list + 1], KEYS[2 * list + 2]
  local place = redis.pcall('LPOS', away, bytes, 'RANK', -1)
  if refused(place) then
    return 'e'
  elseif not place then
    return 'b'
  end
  -- In this order, so that nothing is lost whatever happens.
  local put = older ~= '' and redis.pcall('LINSERT', home, 'BEFORE', older, bytes) or 0
  if refused(put) then
    return 'e'
  elseif put < 1 and refused(redis.pcall('RPUSH', home, bytes)) then
    return 'e'
  elseif refused(redis.pcall('LREM', away, -1, bytes)) then
    return 'e'
  end
  return 'r'
end

-- Whether what is put back may be taken away there is tried first, with what is in no list.
for list = 1, (#KEYS - 2) / 2 do
  refused(redis.pcall('LREM', KEYS[2 * list + 2], 1, KEYS[1]))
end
local count = (#ARGV - 2) / 3
for number = 1, count do
  letters[number] = why == '' and one(number) or '-'
end
local none = why ~= '' and not string.find(table.concat(letters), 'r')
local mark = table.concat(letters) .. '\n' .. why .. '\n'
redis.pcall('SET', KEYS[1], mark, none and 'PXAT' or 'PX', none and 1 or ARGV[2])
return {0, mark}
