-- Take back keys that were written, where they are as they were written, and leave a mark that says
-- what became of each, as a whole.
--
-- KEYS: the mark, the fence, then the keys. ARGV: what the fence must have, life of the mark in
-- ms, then for each key the SHA-1 of the value that was written and its end; and of
-- what stood there before its end (ms of the server's clock, 0 never) and its DUMP, or nothing.
--
-- Returned is as for removing. The letters: r removed; o what stood there before is put back; n
-- something else stands there, and stays; g it has gone; e refused; - not come to.
redis.call('SET', KEYS[1], 'begun', 'PX', ARGV[2])

local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local letters, why = {}, ''

local function refused(answer)
  if type(answer) == 'table' and answer.err then
    why = string.gsub(answer.err, '[\r\n]', ' ')
    return true
  end
end

-- Tell whether it stands there as it was written; nil: something else does.
local function ours(key, at)
  local value = redis.pcall('GET', key)
  if type(value) == 'table' and value.err and string.sub(value.err, 1, 9) == 'WRONGTYPE' then
    return nil
  elseif refused(value) or not value then
    return false
  end
  local last = redis.pcall('PEXPIRETIME', key)
  if refused(last) then
    return false
  elseif redis.sha1hex(value) == ARGV[at] and string.format('%.0f', last) == ARGV[at + 1] then
    return true
  end
end

local function one(number)
  local key, at = KEYS[number + 2], 4 * number - 1
  local stands = ours(key, at)
  if why ~= '' then
    return 'e'
  elseif stands == nil then
    return 'n'
  elseif not stands and tonumber(ARGV[at + 1]) > now then
    return 'g'
  end
  local last, dump = ARGV[at + 2], ARGV[at + 3]
  if dump ~= '' and (tonumber(last) == 0 or tonumber(last) > now) then
    return refused(redis.pcall('RESTORE', key, last, dump, 'ABSTTL', 'REPLACE')) and 'e' or 'o'
  elseif not stands then
    return 'g'
  end
  return refused(redis.pcall('UNLINK', key)) and 'e' or 'r'
end

for number = 1, #KEYS - 2 do
  letters[number] = why == '' and one(number) or '-'
end
-- Where the first is refused nothing was done: then no mark keeps another attempt from it.
local none = why ~= '' and not string.find(table.concat(letters), '[ro]')
local mark = table.concat(letters) .. '\n' .. why .. '\n'
redis.pcall('SET', KEYS[1], mark, none and 'PXAT' or 'PX', none and 1 or ARGV[2])
return {0, mark}
