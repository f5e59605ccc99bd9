-- id -> 1, 0 when the job had ended, -1 without a job
local id = ARGV[1]
if redis.call('EXISTS', P..'job:'..id) == 0 then return -1 end
if job_field(id, 'finished') ~= '' or job_field(id, 'status') == 'cancelled' then return 0 end
local map, changed = string.gsub(redis.call('GET', P..'states:'..id) or '', '[01]', CANCELLED)
redis.call('SET', P..'states:'..id, map)
redis.call('HSET', P..'job:'..id, 'c0', 0, 'c1', 0, 'reading', '0', 'status', 'cancelled',
  'finish', job_field(id, 'plan') == 'made' and '' or 'done')
count(id, CANCELLED, changed)
forget_waits(id)
redis.call('HINCRBY', P..'totals', CANCELLED, changed)
redis.call('HINCRBY', P..'job:'..id, 'gen', 1)
-- Chunks on their way belong to the generation before: they free their places at once.
for _, stage in ipairs({'fetch', 'encode', 'index'}) do
  for _, ref in ipairs(redis.call('ZRANGE', P..'stage:'..stage, 0, -1)) do
    if split(ref) == id then forget_chunk(ref) end
  end
end
start(id)
finish_if_done(id)
return 1
