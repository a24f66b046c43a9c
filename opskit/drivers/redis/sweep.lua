-- Remove keys of which nothing is kept, where they are of many slots: one by one, for a command takes
-- those of one slot. The rest is as in clear.lua, but that letters come in the order of the keys, and
-- that what comes after a refusal is left: - not come to.
redis.call('SET', KEYS[1], 'begun', 'PX', ARGV[2])

local letters, why = {}, ''
for number = 1, #KEYS - 2 do
  local letter = '-'
  if why == '' then
    local said = redis.pcall('UNLINK', KEYS[number + 2])
    if type(said) == 'table' then
      letter, why = 'e', string.gsub(said.err, '[\r\n]', ' ')
    else
      letter = said == 1 and 'r' or 'g'
    end
  end
  letters[number] = letter
end
local none = why ~= '' and not string.find(table.concat(letters), '[rg]')
local mark = table.concat(letters) .. '\n' .. why .. '\n'
redis.pcall('SET', KEYS[1], mark, none and 'PXAT' or 'PX', none and 1 or ARGV[2])
return {0, mark}
