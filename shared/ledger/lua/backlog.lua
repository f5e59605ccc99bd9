-- -> {{waiting, running, items, oldest, lag, idle, put_back, stuck, reason} for fetch, encode and index,
-- {jobs, retrying, held, breakers, aside, lacking}}. `oldest` is '' where no chunk waits, `idle` also where a worker has one;
-- `lag` is the age of the oldest chunk there that was not put back, with a worker or without.
-- `held` are those of fetch's items whose jobs wait for busy hosts.
local t, stages, jobs = now(), {}, {}
for _, name in ipairs({'fetch', 'encode', 'index'}) do
  stages[name] = {waiting = 0, running = 0, items = 0, oldest = '', lag = '', idle = '', put_back = 0, at_work = 0, released = 0, reason = '',
    had = number(redis.call('HGET', P..'stages', name..':had') or '0'),
    passed = number(redis.call('HGET', P..'stages', name..':passed') or '0')}
end

local function job_of(id)
  if jobs[id] == nil then
    local f = redis.call('HMGET', P..'job:'..id, 'chunk', 'c0', 'waiting', 'held', 'gen', 'lacking')
    jobs[id] = f[1] and {gen = f[5], chunk = number(f[1]), pending = number(f[2]), waiting = number(f[3]), held = number(f[4]) > t,
      lacking = number(f[6]) > t}
  end
  return jobs[id]
end

-- What is pending in a chunk that a worker has waits for no one.
local function take_pending(job, ref)
  local id, _, num = split(ref)
  local block = redis.call('GETRANGE', P..'states:'..id, num * job.chunk, (num + 1) * job.chunk - 1)
  local _, pending = string.gsub(block, PENDING, '')
  job.pending = job.pending - pending
end

local function add(ref, came)
  local c = redis.call('HMGET', P..'chunk:'..ref, 'stage', 'state', 'items', 'reason', 'postponed', 'released')
  local id, gen = string.match(ref, '^([^:]+):(%d+)')
  local job, stage = job_of(id), stages[c[1]]
  if not job or not stage or job.gen ~= gen then return end -- one of a cancelled job waits for the sweeper only
  if c[2] == 'running' then
    stage.running = stage.running + 1
    if c[1] == 'fetch' then take_pending(job, ref) end
  else
    stage.waiting = stage.waiting + 1
    stage.items = stage.items + number(c[3])
    if stage.oldest == '' and came then stage.oldest = tostring(math.max(t - came, 0)) end
  end
  -- What is queued again is no longer held up by that once others got past.
  if c[4] and c[4] ~= '' and (c[2] == 'delayed' or number(c[6]) >= stage.passed) then
    stage.put_back = stage.put_back + 1
    if number(c[6]) >= stage.released then stage.released, stage.reason = number(c[6]), c[4] end
  else
    if c[2] == 'running' then stage.at_work = stage.at_work + 1 end
    if stage.lag == '' and came then stage.lag = tostring(math.max(t - came, 0)) end
  end
  if c[1] == 'fetch' and number(c[5]) > 0 then job.held = true end
end

for name in pairs(stages) do
  local refs = redis.call('ZRANGE', P..'stage:'..name, 0, -1, 'WITHSCORES')
  for i = 1, #refs, 2 do add(refs[i], tonumber(refs[i + 1])) end
end
for _, ref in ipairs(redis.call('SMEMBERS', P..'away')) do add(ref) end
-- Jobs whose chunks wait for a time, and those with items that no message was sent for.
for _, ref in ipairs(redis.call('ZRANGE', P..'due', 0, -1)) do job_of(string.match(ref, '^[^:]+')) end
for _, id in ipairs(redis.call('LRANGE', P..'open', 0, -1)) do job_of(id) end
for _, id in ipairs(redis.call('ZRANGE', P..'reading', 0, -1)) do job_of(id) end

local aside = 0
for _, ref in ipairs(redis.call('SMEMBERS', P..'aside')) do
  if redis.call('HGET', P..'chunk:'..ref, 'state') == 'running' then aside = aside + 1 end
end
-- Those that were forgotten before their time are in `expiry` alone until the sweeper has deleted their files.
local finished = redis.call('ZCOUNT', P..'expiry', '('..tostring(t), '+inf')
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P..'expiry', '-inf', t)) do
  finished = finished + redis.call('EXISTS', P..'job:'..id)
end

local fetch, retrying, held, lacking = stages.fetch, 0, 0, 0
for id, job in pairs(jobs) do
  if job and job.waiting > 0 then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', P..'retrying:'..id, '('..tostring(t), '+inf')) do
      local items = tonumber(string.match(member, ':(%d+):'))
      retrying = retrying + items
      job.pending = job.pending - items
    end
  end
  if job then
    fetch.items = fetch.items + job.pending
    if job.lacking then lacking = lacking + job.pending
    elseif job.held then held = held + job.pending end
  end
end

local function shown(stage)
  if stage.running == 0 and stage.oldest ~= '' then
    stage.idle = tostring(math.max(math.min(tonumber(stage.oldest), t - stage.had), 0))
  end
  return {stage.waiting, stage.running, stage.items, stage.oldest, stage.lag, stage.idle, stage.put_back,
    (stage.put_back > 0 and stage.at_work == 0 and stage.released >= stage.passed) and 1 or 0, stage.reason}
end
return {shown(fetch), shown(stages.encode), shown(stages.index), {
  redis.call('ZCARD', P..'jobs') - finished, retrying, held, redis.call('ZCOUNT', P..'breakers', '('..tostring(t), '+inf'), aside, lacking}}
