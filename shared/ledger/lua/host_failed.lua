-- host error pause failures_to_open open_s longest_open_s forget
local key = P..'host:'..ARGV[1]
local t, pause = now(), tonumber(ARGV[3])
local failures = redis.call('HINCRBY', key, 'failures', 1)
local f = redis.call('HMGET', key, 'paused', 'opened', 'until')
if pause > 0 then redis.call('HSET', key, 'paused', math.max(number(f[1]), t + pause)) end
local opened = number(f[2])
-- What was under way when the breaker opened is not news; a failed probe is.
if failures >= tonumber(ARGV[4]) and t > number(f[3]) then
  local open = math.max(math.min(tonumber(ARGV[5]) * 2 ^ opened, tonumber(ARGV[6])), pause)
  redis.call('ZREMRANGEBYSCORE', P..'breakers', '-inf', t)
  redis.call('ZADD', P..'breakers', t + open, ARGV[1])
  redis.call('HSET', key, 'open', t + open, 'until', t + open, 'opened', opened + 1, 'error', ARGV[2])
end
redis.call('EXPIRE', key, ARGV[7])
