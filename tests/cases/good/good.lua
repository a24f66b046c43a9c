-- {{ not rendered }}
return redis.call('DEL', KEYS[1])
