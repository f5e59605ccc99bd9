-- id count reading_lease -> 1, 0 when the body is no longer wanted (cancelled or given up), -1 without a job
local id, more = ARGV[1], tonumber(ARGV[2])
if redis.call('EXISTS', P..'job:'..id) == 0 then return -1 end
if job_field(id, 'reading') ~= '1' then return 0 end
redis.call('ZADD', P..'reading', now() + tonumber(ARGV[3]), id)
if more > 0 then
  redis.call('APPEND', P..'states:'..id, string.rep(PENDING, more))
  redis.call('HINCRBY', P..'job:'..id, 'total', more)
  count(id, PENDING, more)
  mark_open(id)
end
return 1
