-- Note in a mark how many keys there are, before some are removed in the same transaction.
--
-- KEYS: the mark. ARGV: its life in ms.
redis.call('SET', KEYS[1], 'begun ' .. redis.call('DBSIZE'), 'PX', ARGV[1])
