-- id count reading_lease bytes most_bytes -> 1, 0 when the body is no longer wanted (cancelled or given up), -1 without a
-- job, -2 when there is no room for so many bytes more
local id, more, bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
if redis.call('EXISTS', P..'job:'..id) == 0 then return -1 end
if job_field(id, 'reading') ~= '1' then return 0 end
local by = job_field(id, 'by')
if by then
  if make_room(by, 0, bytes, math.huge, tonumber(ARGV[5])) then return -2 end
  redis.call('HINCRBY', P..'job:'..id, 'bytes', bytes)
  add_bytes(by, bytes)
  add_bytes(by..':active', bytes)
end
redis.call('ZADD', P..'reading', now() + tonumber(ARGV[3]), id)
if more > 0 then
  redis.call('APPEND', P..'states:'..id, string.rep(PENDING, more))
  redis.call('HINCRBY', P..'job:'..id, 'total', more)
  count(id, PENDING, more)
  mark_open(id)
end
return 1
