-- Put keys back where nothing stands in their place, and leave a mark that says what became of
-- each, as a whole.
--
-- KEYS: the mark, the key of the run, then the keys. ARGV: what the key of the run must have, life
-- of the mark in ms, then for each key when it ends (ms of the server's clock, 0 never) and its
-- DUMP.
--
-- Returned is as for removing. The letters: r put back; b something stands there, and stays; x its
-- time is over; e refused; - not come to.
redis.call('SET', KEYS[1], 'begun', 'PX', ARGV[2])

local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local letters, why = {}, ''

local function one(number)
  local last, dump = ARGV[2 * number + 1], ARGV[2 * number + 2]
  if tonumber(last) > 0 and tonumber(last) <= now then
    return 'x'
  end
  local answer = redis.pcall('RESTORE', KEYS[number + 2], last, dump, 'ABSTTL')
  if type(answer) == 'table' and answer.err then
    if string.sub(answer.err, 1, 7) == 'BUSYKEY' then
      return 'b'
    end
    why = string.gsub(answer.err, '[\r\n]', ' ')
    return 'e'
  end
  return 'r'
end

for number = 1, #KEYS - 2 do
  letters[number] = why == '' and one(number) or '-'
end
-- Where the first is refused nothing was done: then no mark keeps another attempt from it.
local none = why ~= '' and not string.find(table.concat(letters), 'r')
local mark = table.concat(letters) .. '\n' .. why .. '\n'
redis.pcall('SET', KEYS[1], mark, none and 'PXAT' or 'PX', none and 1 or ARGV[2])
return {0, mark}
