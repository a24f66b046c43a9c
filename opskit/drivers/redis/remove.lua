-- Remove keys and leave a mark that says what became of each, as a whole.
--
-- KEYS: the mark, the key of the run, then the keys. ARGV: what the key of the run must have, life
-- of the mark in ms, up to how many bytes are kept in it, then for each key the SHA-1 of its DUMP
-- and its end (PEXPIRETIME) when it was archived.
--
-- Returned are 1 and the mark that was there before (then nothing is done), 2 where the key of the
-- run is another one (nothing either), or 0 and the mark. A mark is a line with a letter for each
-- key: r removed; c removed, and another value than the archived one, which stands in the mark; g
-- gone before; k left, for its new value is too large to be kept; e refused; - not come to. Then
-- why it was refused, in a line; then for each c a line `number end size` and the DUMP.
local life, keep = ARGV[2], tonumber(ARGV[3])
redis.call('SET', KEYS[1], 'begun', 'PX', life)

local letters, late, why, size = {}, {}, '', 0

local function refused(answer)
  if type(answer) == 'table' and answer.err then
    why = string.gsub(answer.err, '[\r\n]', ' ')
    return true
  end
end

local function one(number)
  local key = KEYS[number + 2]
  local dump = redis.pcall('DUMP', key)
  if refused(dump) then
    return 'e'
  elseif not dump then
    return 'g'
  end
  local last = redis.pcall('PEXPIRETIME', key)
  if refused(last) then
    return 'e'
  end
  local letter, kept, ends = 'r', nil, string.format('%.0f', last)
  if redis.sha1hex(dump) .. ' ' .. ends ~= ARGV[number + 3] then
    if size + #dump > keep then
      return 'k'
    end
    letter, kept = 'c', number .. ' ' .. ends .. ' ' .. #dump .. '\n' .. dump
  end
  if refused(redis.pcall('UNLINK', key)) then
    return 'e'
  end
  if kept then
    size = size + #dump
    late[#late + 1] = kept
  end
  return letter
end

for number = 1, #KEYS - 2 do
  letters[number] = why == '' and one(number) or '-'
end
-- Where the first is refused nothing was done: then no mark keeps another attempt from it.
local none = why ~= '' and not string.find(table.concat(letters), '[rc]')
local mark = table.concat(letters) .. '\n' .. why .. '\n' .. table.concat(late)
redis.pcall('SET', KEYS[1], mark, none and 'PXAT' or 'PX', none and 1 or life)
return {0, mark}
