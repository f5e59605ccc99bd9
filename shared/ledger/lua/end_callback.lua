-- job host until next_in outcome failures_to_open open_s longest_open_s forget -> nothing: a call was made. `outcome` is
-- what it tells of the host: answered, failed or nothing. `next_in` below 0: no further try.
local id, host, t = ARGV[1], ARGV[2], now()
-- Else the job was retried meanwhile, or the call taken for lost.
if redis.call('ZSCORE', P..'calling:'..host, id) == ARGV[3] then
  redis.call('ZREM', P..'calling:'..host, id)
  if tonumber(ARGV[4]) >= 0 then redis.call('ZADD', P..'callbacks:'..host, t + tonumber(ARGV[4]), id) end
end
local key = P..'receiver:'..host
if ARGV[5] == 'answered' then
  redis.call('HSET', key, 'failures', 0, 'open', 0, 'answered', 1)
elseif ARGV[5] == 'failed' and number(redis.call('HGET', key, 'open') or '0') <= t then -- else it is not news
  local beyond = redis.call('HINCRBY', key, 'failures', 1) - tonumber(ARGV[6])
  if beyond >= 0 then
    redis.call('HSET', key, 'open', t + math.min(tonumber(ARGV[7]) * 2 ^ beyond, tonumber(ARGV[8])))
  end
end
redis.call('EXPIRE', key, ARGV[9])
schedule_host(host, t)
