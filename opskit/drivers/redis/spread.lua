-- In a cluster a script may name keys of one slot, and use those of others that are there. So the
-- keys are the last of the arguments; how many they are is the very last one.
local keys, given = {KEYS[1], KEYS[2]}, tonumber(ARGV[#ARGV])
for number = #ARGV - given, #ARGV - 1 do
  keys[#keys + 1] = ARGV[number]
end
local KEYS = keys
