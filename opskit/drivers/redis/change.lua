-- Do a change and leave its mark, as a whole: nobody sees one without the other.
--
-- KEYS: the mark. ARGV: its life in ms; up to how many bytes of the answers are kept in it;
-- then `commands`, how many, and each as its number of words and these; or `script`, its text, its
-- number of keys, these, and its arguments.
--
-- Returned are whether the mark was there before (then nothing is done), and what it says: as the
-- server itself would write it, a list of state, number of the command that failed, why, the
-- answers, and `cut` where these are left out.
local life, keep, how = ARGV[1], tonumber(ARGV[2]), ARGV[3]

local there = redis.call('GET', KEYS[1])
if there then
  return {1, there}
end

local DEEPEST, EXACT = 64, 9007199254740992

local function bulk(text)
  return '$' .. #text .. '\r\n' .. text .. '\r\n'
end

local function line(mark, text)
  return mark .. string.gsub(text, '[\r\n]', ' ') .. '\r\n'
end

local encode

local function list(values, deep)
  local pieces = {}
  for number = 1, #values do
    pieces[number] = encode(values[number], deep + 1)
  end
  return '*' .. #values .. '\r\n' .. table.concat(pieces)
end

local function map(values, deep)
  local flat = {}
  for name, value in pairs(values) do
    flat[#flat + 1] = encode(name, deep + 1) .. encode(value, deep + 1)
  end
  return '*' .. (2 * #flat) .. '\r\n' .. table.concat(flat)
end

local function set(values, deep)
  local names = {}
  for name in pairs(values) do
    names[#names + 1] = encode(name, deep + 1)
  end
  return '*' .. #names .. '\r\n' .. table.concat(names)
end

local function whole(number)
  if not (number > -EXACT and number < EXACT) then
    return line('-', 'INEXACT a number beyond 2^53, which no script can tell exactly')
  end
  local cut = number < 0 and math.ceil(number) or math.floor(number)
  return ':' .. string.format('%.0f', cut) .. '\r\n'
end

local function structure(value, deep)
  if value.err then
    return line('-', value.err)
  elseif value.ok then
    return line('+', value.ok)
  elseif value.double then
    return bulk(string.format('%.17g', value.double))
  elseif value.map then
    return map(value.map, deep)
  elseif value.set then
    return set(value.set, deep)
  elseif value.big_number then
    return bulk(value.big_number)
  elseif value.verbatim_string then
    return bulk(value.verbatim_string.string)
  end
  local values = {}
  for number, inner in ipairs(value) do
    values[number] = inner
  end
  return list(values, deep)
end

encode = function(value, deep)
  local kind = type(value)
  if deep > DEEPEST then
    return line('-', 'DEEP an answer with too many lists within lists')
  elseif kind == 'string' then
    return bulk(value)
  elseif kind == 'number' then
    return whole(value)
  elseif kind == 'table' then
    return structure(value, deep)
  end
  return value and ':1\r\n' or '$-1\r\n'
end

local function told(state, at, why, answers, cut)
  return '*5\r\n' .. bulk(state) .. bulk(tostring(at)) .. bulk(why) .. bulk(answers) .. bulk(cut)
end

-- Where words of ARGV stand: `count` of them from `first` on.
local function words(first, count)
  local found = {}
  for number = 1, count do
    found[number] = ARGV[first + number - 1]
  end
  return found
end

local made
if how == 'script' then
  local wrong
  made, wrong = loadstring('local KEYS, ARGV = ... ' .. ARGV[4], '@script')
  if not made then
    return redis.error_reply('SCRIPT it can not be read: ' .. wrong)
  end
end

-- Where nothing may be written, or there is no room, it ends here, and nothing has been done.
redis.call('SET', KEYS[1], told('begun', 0, '', '', ''), 'PX', life)

local answers, failed, why = {}, 0, ''

local function wrong_of(answer)
  if type(answer) == 'table' then
    return answer.err
  end
end

if made then
  local count = tonumber(ARGV[5])
  local keys, rest = words(6, count), words(6 + count, #ARGV - 5 - count)
  local fine, answer = pcall(made, keys, rest)
  if fine and not wrong_of(answer) then
    answers[1] = encode(answer, 0)
  else
    failed, why = 1, wrong_of(answer) or tostring(answer)
  end
else
  local at = 5
  for number = 1, tonumber(ARGV[4]) do
    local count = tonumber(ARGV[at])
    local answer = redis.pcall(unpack(words(at + 1, count), 1, count))
    if wrong_of(answer) then
      failed, why = number, answer.err
      break
    end
    answers[number] = encode(answer, 0)
    at = at + 1 + count
  end
end

local state = failed > 0 and 'failed' or 'done'
local body = '*' .. #answers .. '\r\n' .. table.concat(answers)
local found = told(state, failed, why, body, '')
local kept = #body <= keep and found or told(state, failed, why, '', 'cut')
redis.pcall('SET', KEYS[1], kept, 'PX', life)
return {0, found}
