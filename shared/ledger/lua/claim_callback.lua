-- lane hold -> {job, host, tries, until}: a call to make, that is nobody else's for `hold` seconds; or nothing
local lane, t = P..'receivers:'..ARGV[1], now()
while true do
  local host = redis.call('ZRANGEBYSCORE', lane, '-inf', t, 'LIMIT', 0, 1)[1]
  if not host then return nil end
  redis.call('ZREM', lane, host)
  schedule_host(host, t)
  if number(redis.call('ZSCORE', lane, host) or t + 1) <= t then
    local id = redis.call('ZRANGE', P..'callbacks:'..host, 0, 0)[1]
    redis.call('ZREM', P..'callbacks:'..host, id)
    redis.call('ZADD', P..'calling:'..host, t + tonumber(ARGV[2]), id)
    local till = redis.call('ZSCORE', P..'calling:'..host, id)
    redis.call('ZREM', lane, host)
    schedule_host(host, t)
    return {id, host, redis.call('HINCRBY', P..'job:'..id, 'callback_tries', 1), till}
  end
end
