-- id request_id traceparent -> how many items are open again, -2 while the job runs, -1 without a job
local id = ARGV[1]
if redis.call('EXISTS', P..'job:'..id) == 0 then return -1 end
if job_field(id, 'finished') == '' then return -2 end
local failed = job_number(id, 'c4')
if failed == 0 then return 0 end
redis.call('SET', P..'states:'..id, (string.gsub(redis.call('GET', P..'states:'..id), FAILED, PENDING)))
redis.call('HSET', P..'job:'..id, 'c4', 0, 'cursor', 0, 'finished', '', 'status', 'queued', 'started', '',
  'mark_t', '', 'mark_n', '', 'prev_t', '', 'prev_n', '', 'callback_tries', 0, 'finish', '', 'result', '',
  'request_id', ARGV[2], 'traceparent', ARGV[3],
  'base', job_number(id, 'total') - failed - job_number(id, 'c5'))
count(id, PENDING, failed)
redis.call('HINCRBY', P..'job:'..id, 'gen', 1)
redis.call('DEL', P..'errors:'..id, P..'failures:'..id)
forget_waits(id)
redis.call('ZREM', P..'expiry', id)
forget_callback(id)
local by = job_field(id, 'by')
if by then activate(id, by, job_number(id, 'bytes')) end
mark_open(id)
return failed
