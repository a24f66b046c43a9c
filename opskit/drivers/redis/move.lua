-- Move messages from lists to others and leave a mark that says what became of each, as a whole.
--
-- KEYS: the mark, the key of the run, then for each list of the queue where from and where to.
-- ARGV: what the key of the run must have, life of the mark in ms, then for each message, the newest
-- first, the number of its list and its bytes.
--
-- Returned is as for removing keys. The letters: r moved; g gone before; e refused; - not come to.
redis.call('SET', KEYS[1], 'begun', 'PX', ARGV[2])

local letters, why = {}, ''

local function refused(answer)
  if type(answer) == 'table' and answer.err then
    why = string.gsub(answer.err, '[\r\n]', ' ')
    return true
  end
end

local function one(number)
  local list, bytes = tonumber(ARGV[2 * number + 1]), ARGV[2 * number + 2]
  local from, to = KEYS[2 * list + 1], KEYS[2 * list + 2]
  local place = redis.pcall('LPOS', from, bytes, 'RANK', -1)
  if refused(place) then
    return 'e'
  elseif not place then
    return 'g'
  end
  -- In this order, so that nothing is lost whatever happens.
  if refused(redis.pcall('RPUSH', to, bytes)) or refused(redis.pcall('LREM', from, -1, bytes)) then
    return 'e'
  end
  return 'r'
end

-- Whether what is put there may be taken away here is tried first, with what is in no list.
for list = 1, (#KEYS - 2) / 2 do
  refused(redis.pcall('LREM', KEYS[2 * list + 1], 1, KEYS[1]))
end
local count = (#ARGV - 2) / 2
for number = 1, count do
  letters[number] = why == '' and one(number) or '-'
end
-- Where the first is refused nothing was done: then no mark keeps another attempt from it.
local none = why ~= '' and not string.find(table.concat(letters), 'r')
local mark = table.concat(letters) .. '\n' .. why .. '\n'
redis.pcall('SET', KEYS[1], mark, none and 'PXAT' or 'PX', none and 1 or ARGV[2])
return {0, mark}
