-- host interval burst longest_wait forget probe -> {wait, failures, error}: `error` with an open breaker, that
-- ends in `wait`; a `wait` above the longest reserves nothing. The bucket is a GCRA: at `next` it is full.
local key = P..'host:'..ARGV[1]
local interval, t = tonumber(ARGV[2]), now()
local f = redis.call('HMGET', key, 'next', 'paused', 'open', 'failures', 'error')
local open, failures = number(f[3]), number(f[4])
if open > t then return {tostring(open - t), failures, f[5]} end
local full = math.max(number(f[1]), number(f[2]), t)
local wait = math.max(full - t - (tonumber(ARGV[3]) - 1) * interval, number(f[2]) - t, 0)
if wait > tonumber(ARGV[4]) then return {tostring(wait), failures, ''} end
if f[5] and f[5] ~= '' then
  local ends = t + wait + tonumber(ARGV[6])
  redis.call('HSET', key, 'open', ends)
  redis.call('ZADD', P..'breakers', ends, ARGV[1])
end
redis.call('HSET', key, 'next', full + interval)
redis.call('EXPIRE', key, ARGV[5])
return {tostring(wait), failures, ''}
