-- id truncated -> 1, or -1 without a job
local id = ARGV[1]
if redis.call('EXISTS', P..'job:'..id) == 0 then return -1 end
if job_field(id, 'reading') == '1' then
  redis.call('HSET', P..'job:'..id, 'reading', '0', 'truncated', ARGV[2])
  redis.call('ZREM', P..'reading', id)
  if job_number(id, 'cursor') < job_number(id, 'total') then mark_open(id) end
  finish_if_done(id)
end
return 1
