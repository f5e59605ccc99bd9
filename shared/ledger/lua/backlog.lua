-- -> {{waiting, running, items, oldest, put_back, reason} for fetch, encode and index, {jobs, retrying, held, breakers}}.
-- `oldest` is '' where no chunk waits. `held` are those of fetch's items whose jobs wait for busy hosts.
local NAMES = {'fetch', 'encode', 'index'}
local t, stages, jobs, running = now(), {}, {}, {}
for _, name in ipairs(NAMES) do stages[name] = {waiting = 0, running = 0, items = 0, put_back = 0, reason = ''} end

local function job_of(id)
  if jobs[id] == nil then
    local f = redis.call('HMGET', P..'job:'..id, 'gen', 'chunk', 'c0', 'waiting', 'held')
    jobs[id] = f[1] and {gen = f[1], chunk = number(f[2]), pending = number(f[3]), waiting = number(f[4]),
      held = number(f[5]) > t}
  end
  return jobs[id]
end

-- What is pending in a chunk that a worker has waits for no one.
local function take_pending(job, id, num)
  local block = redis.call('GETRANGE', P..'states:'..id, num * job.chunk, (num + 1) * job.chunk - 1)
  local _, pending = string.gsub(block, PENDING, '')
  job.pending = job.pending - pending
end

-- Every chunk stands in `due`, whatever its state.
for _, ref in ipairs(redis.call('ZRANGE', P..'due', 0, -1)) do
  local id, gen, num = string.match(ref, '^(.+):(%d+):(%d+):%d+$')
  local c = redis.call('HMGET', P..'chunk:'..ref, 'stage', 'state', 'items', 'reason', 'postponed')
  local job, stage = job_of(id), stages[c[1]]
  if job and stage and job.gen == gen then
    if c[2] == 'running' then
      stage.running = stage.running + 1
      running[ref] = true
      if c[1] == 'fetch' then take_pending(job, id, tonumber(num)) end
    elseif c[2] == 'queued' or c[4] then -- else it waits for the time of its next attempt
      stage.waiting = stage.waiting + 1
      stage.items = stage.items + number(c[3])
    end
    if c[4] and c[4] ~= '' then
      stage.put_back = stage.put_back + 1
      stage.reason = c[4]
    end
    if c[1] == 'fetch' and number(c[5]) > 0 then job.held = true end
  end
end
-- The other jobs with items that no message was sent for.
for _, id in ipairs(redis.call('LRANGE', P..'open', 0, -1)) do job_of(id) end
for _, id in ipairs(redis.call('ZRANGE', P..'reading', 0, -1)) do job_of(id) end

local retrying, held = 0, 0
for id, job in pairs(jobs) do
  if job and job.waiting > 0 then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', P..'retrying:'..id, '('..tostring(t), '+inf')) do
      local items = tonumber(string.match(member, ':(%d+):'))
      retrying = retrying + items
      job.pending = job.pending - items
    end
  end
  if job then
    stages.fetch.items = stages.fetch.items + math.max(job.pending, 0)
    if job.held then held = held + math.max(job.pending, 0) end
  end
end

local answer = {}
for i, name in ipairs(NAMES) do
  local stage, oldest = stages[name], ''
  local came = redis.call('ZRANGE', P..'stage:'..name, 0, -1, 'WITHSCORES')
  for j = 1, #came, 2 do
    if not running[came[j]] then
      oldest = tostring(math.max(t - came[j + 1], 0))
      break
    end
  end
  answer[i] = {stage.waiting, stage.running, stage.items, oldest, stage.put_back, stage.reason}
end
answer[4] = {redis.call('ZCARD', P..'jobs') - redis.call('ZCARD', P..'expiry'), retrying, held,
  redis.call('ZCOUNT', P..'breakers', '('..tostring(t), '+inf')}
return answer
