local P = 'is:'
local PENDING, FETCHED, FAILED, CANCELLED = '0', '1', '4', '5'

local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1000000
end

-- The first of `count` versions that nobody else gets, in microseconds since the epoch: later than all before.
-- (Versions are nanoseconds, more than Lua's numbers hold exactly; microseconds are not.)
local function versions(count)
  local t = redis.call('TIME')
  local first = math.max(tonumber(t[1]) * 1000000 + tonumber(t[2]), (tonumber(redis.call('GET', P..'clock') or '0')) + 1)
  redis.call('SET', P..'clock', string.format('%.0f', first + math.ceil(count / 1000)))
  return string.format('%.0f', first)
end

local function number(value) return tonumber(value or '0') or 0 end
local function job_field(id, name) return redis.call('HGET', P..'job:'..id, name) end
local function job_number(id, name) return number(job_field(id, name) or '0') end

-- Fields of a job by their names; one that it lacks is false.
local function job_fields(id, ...)
  local job, values = {}, redis.call('HMGET', P..'job:'..id, ...)
  for i, name in ipairs({...}) do job[name] = values[i] end
  return job
end

local function split(ref)
  local id, gen, num, attempt = string.match(ref, '^(.+):(%d+):(%d+):(%d+)$')
  return id, tonumber(gen), tonumber(num), tonumber(attempt)
end

-- What waited in a chunk to be tried again has been tried.
local function end_wait(ref)
  local member = redis.call('HGET', P..'chunk:'..ref, 'waits')
  if not member then return end
  local id = split(ref)
  redis.call('HDEL', P..'chunk:'..ref, 'waits')
  if redis.call('ZREM', P..'retrying:'..id, member) == 1 then
    redis.call('HINCRBY', P..'job:'..id, 'waiting', '-'..string.match(member, ':(%d+):'))
  end
end

local function forget_waits(id)
  redis.call('DEL', P..'retrying:'..id)
  redis.call('HSET', P..'job:'..id, 'waiting', 0)
end

local function forget_chunk(ref)
  end_wait(ref)
  redis.call('DEL', P..'chunk:'..ref)
  redis.call('ZREM', P..'due', ref)
  redis.call('SREM', P..'aside', ref)
  redis.call('SREM', P..'away', ref)
  for _, stage in ipairs({'fetch', 'encode', 'index'}) do redis.call('ZREM', P..'stage:'..stage, ref) end
end

-- Puts a chunk into the queue of a stage. Those that are worked on beside the others (worker/aside.py) wait for one
-- another, perhaps for hours: they are marked, so that others need not wait behind them.
local function await_message(ref, stage, payload, t)
  redis.call('ZADD', P..'stage:'..stage, 'NX', t, ref)
  redis.call('SREM', P..'away', ref)
  if (payload == 'begin' or payload == 'finish') and job_field(split(ref), 'kind') == 'sync' then
    redis.call('SADD', P..'aside', ref)
  end
end

-- A chunk arrives at a stage and waits there for a message to be delivered; the sweeper repeats a message
-- that was lost after `resend` seconds.
local function queue_chunk(ref, stage, payload, resend)
  local t = now()
  forget_chunk(ref)
  redis.call('HSET', P..'chunk:'..ref, 'stage', stage, 'state', 'queued', 'token', '', 'deliveries', 0,
    'payload', payload, 'resends', 0)
  await_message(ref, stage, payload, t)
  redis.call('ZADD', P..'due', t + resend, ref)
end

local function mark_open(id)
  if job_field(id, 'open') ~= '1' then
    redis.call('HSET', P..'job:'..id, 'open', '1')
    redis.call('RPUSH', P..'open', id)
  end
end

-- When a worker last had a chunk at a stage, and when one last got past it.
local function mark_stage(stage, ...)
  for _, what in ipairs({...}) do redis.call('HSET', P..'stages', stage..':'..what, now()) end
end

local function count(id, state, by) redis.call('HINCRBY', P..'job:'..id, 'c'..state, by) end

-- The host, with its port, that a job's callback goes to.
local function receiver_of(id)
  return string.lower(string.match(job_field(id, 'callback') or '', '^%s*%a+://([^/?#]*)') or '')
end

-- How many calls of one host may be under way, by its lane: what is known of it.
local SHARES = {known = 4, new = 1, failing = 1}

-- Gives a host its place in its lane, at the end of those whose turn it is; it keeps the one that it has there.
local function schedule_host(host, t)
  local jobs, calls = P..'callbacks:'..host, P..'calling:'..host
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', calls, '-inf', t)) do -- whoever made this call is gone
    redis.call('ZREM', calls, id)
    redis.call('ZADD', jobs, t, id)
  end
  local about = redis.call('HMGET', P..'receiver:'..host, 'failures', 'open', 'answered')
  local lane = number(about[1]) > 0 and 'failing' or about[3] and 'known' or 'new'
  local before = redis.call('ZSCORE', P..'receivers:'..lane, host)
  for name in pairs(SHARES) do redis.call('ZREM', P..'receivers:'..name, host) end
  local job = redis.call('ZRANGE', jobs, 0, 0, 'WITHSCORES')
  local call = redis.call('ZRANGE', calls, 0, 0, 'WITHSCORES')
  local at = call[2]
  if job[2] and redis.call('ZCARD', calls) < SHARES[lane] then
    at = math.max(number(job[2]), number(about[2]), t)
    if before and at <= t then at = math.min(number(before), at) end
  end
  if at then redis.call('ZADD', P..'receivers:'..lane, at, host) end
end

local function forget_callback(id)
  local host = receiver_of(id)
  redis.call('ZREM', P..'callbacks:'..host, id)
  redis.call('ZREM', P..'calling:'..host, id)
  schedule_host(host, now())
end

local function await_callback(id, t)
  local host = receiver_of(id)
  redis.call('ZADD', P..'callbacks:'..host, t, id)
  schedule_host(host, t)
end

-- A job counts for the key that made it (`by`; '' where there are none) until it is forgotten: in `active:<by>`, once it
-- has finished in `kept:<by>`, and with its bytes in `held`. What an earlier version made counts for nobody.
local function add_bytes(field, bytes)
  if bytes == 0 then return end -- for Redis -0 is no number
  if redis.call('HINCRBY', P..'held', field, string.format('%.0f', bytes)) == 0 then
    redis.call('HDEL', P..'held', field)
  end
end

local function activate(id, by, bytes)
  local job = job_fields(id, 'collection', 'version')
  redis.call('ZADD', P..'changing:'..job.collection, job.version or 0, id)
  redis.call('ZREM', P..'kept:'..by, id)
  redis.call('SADD', P..'active:'..by, id)
  add_bytes(by..':active', bytes)
end

local function retire(id, by, bytes, t)
  redis.call('ZREM', P..'changing:'..job_field(id, 'collection'), id)
  redis.call('SREM', P..'active:'..by, id)
  redis.call('ZADD', P..'kept:'..by, t, id)
  add_bytes(by..':active', -bytes)
end

-- Of a job that has finished; its files are for the sweeper.
local function forget(id)
  local job = job_fields(id, 'by', 'bytes', 'idempotency', 'group')
  if job.by then
    redis.call('ZREM', P..'kept:'..job.by, id)
    add_bytes(job.by, -number(job.bytes))
  end
  forget_callback(id)
  local key = P..'idem:'..(job.idempotency or '')
  if string.sub(redis.call('GET', key) or '', -#id) == id then redis.call('DEL', key) end
  if job.group then redis.call('ZREM', P..'group:'..job.group, id) end
  for _, name in ipairs({'job:', 'states:', 'errors:', 'failures:', 'retrying:'}) do redis.call('DEL', P..name..id) end
  for _, name in ipairs({'jobs', 'reading'}) do redis.call('ZREM', P..name, id) end
  redis.call('LREM', P..'open', 0, id)
end

-- Forgets the jobs of a key that finished first, until there is room for more of it: returns nil, or which limit is in the
-- way, that of `jobs` or `bytes`, when those that have not finished leave none.
local function make_room(by, jobs, bytes, most_jobs, most_bytes)
  local active, kept = redis.call('SCARD', P..'active:'..by), P..'kept:'..by
  local function held(field) return number(redis.call('HGET', P..'held', field) or '0') end
  if active + jobs > most_jobs then return 'jobs' end
  if held(by..':active') + bytes > most_bytes then return 'bytes' end
  while active + redis.call('ZCARD', kept) + jobs > most_jobs or held(by) + bytes > most_bytes do
    local oldest = redis.call('ZRANGE', kept, 0, 0)[1]
    if not oldest then return end
    forget(oldest)
    redis.call('ZADD', P..'expiry', now(), oldest)
  end
end

local function is_open(state) return state == PENDING or state == FETCHED end

-- The job that syncs a source; nil when the last has ended.
local function syncing(source)
  local id = redis.call('HGET', P..'syncing', source)
  return id and redis.call('EXISTS', P..'job:'..id) == 1 and id or nil
end

-- A job ends when its body was read and no item is open. One with a final stage then has one more chunk, beyond its items
-- and at that stage: `finish` is `sent` while that is on its way, `done` when there is none (any more). It leaves
-- the job `incomplete` unless it says otherwise. A planned job has it also once it was cancelled: what its items came to
-- has to be noted. (Before its plan nothing asks whether a job is done.)
local function finish_if_done(id)
  local key = P..'job:'..id
  local job = job_fields(id, 'reading', 'c0', 'c1', 'c4', 'c5', 'total', 'finished', 'callback', 'final_stage',
    'finish', 'chunk', 'gen', 'incomplete', 'by', 'bytes', 'status', 'plan', 'source')
  local failed, cancelled, total = number(job.c4), number(job.c5), number(job.total)
  if job.reading == '1' or number(job.c0) + number(job.c1) > 0 or job.finished ~= '' then return end
  if (job.final_stage or '') ~= '' and (cancelled == 0 or job.plan == 'made') and job.finish ~= 'done' then
    if job.finish ~= 'sent' then
      redis.call('HSET', key, 'finish', 'sent')
      -- The sweeper sends it, within a second.
      queue_chunk(id..':'..job.gen..':'..math.ceil(total / number(job.chunk))..':0', job.final_stage, 'finish', 0)
    end
    return
  end
  local status = 'succeeded'
  if cancelled > 0 or job.status == 'cancelled' then status = 'cancelled'
  elseif job.plan == 'failed' or (total > 0 and failed == total) then status = 'failed'
  elseif failed > 0 or job.incomplete == '1' then status = 'partial' end
  local t = now()
  redis.call('HSET', key, 'status', status, 'finished', t)
  redis.call('ZADD', P..'expiry', t + job_number(id, 'ttl'), id)
  redis.call('ZREM', P..'reading', id)
  redis.call('HDEL', P..'announced', id)
  if job.source then redis.call('HDEL', P..'syncing', job.source) end
  if job.by then retire(id, job.by, number(job.bytes), t) end
  if job.callback ~= '' then await_callback(id, t) end
end

local function start(id)
  if job_field(id, 'status') == 'queued' then redis.call('HSET', P..'job:'..id, 'status', 'running') end
  if job_field(id, 'started') == '' then redis.call('HSET', P..'job:'..id, 'started', now()) end
end

-- Two marks of (time, items done), at least ten seconds apart, carry the recent rate.
local function mark_rate(id)
  local key = P..'job:'..id
  local job, t = job_fields(id, 'total', 'c0', 'c1', 'c5', 'mark_t', 'mark_n'), now()
  if t - number(job.mark_t) >= 10 then
    redis.call('HSET', key, 'prev_t', job.mark_t or '', 'prev_n', job.mark_n or '',
      'mark_t', t, 'mark_n', number(job.total) - number(job.c0) - number(job.c1) - number(job.c5))
  end
end

local function holds(ref, token)
  local id, gen = split(ref)
  return redis.call('HGET', P..'chunk:'..ref, 'token') == token and token ~= ''
    and job_field(id, 'gen') == tostring(gen)
end

local function claim(ref, stage, token, lease)
  local id, gen, num = split(ref)
  local job = job_fields(id, 'gen', 'chunk', 'total', 'collection', 'version', 'kind', 'options',
    'request_id', 'traceparent')
  if not job.gen or tonumber(job.gen) ~= gen then forget_chunk(ref) return nil end
  local c = redis.call('HMGET', P..'chunk:'..ref, 'stage', 'state', 'payload')
  if c[1] ~= stage or c[2] == 'delayed' then return nil end
  local t = now()
  if c[2] == 'running' and number(redis.call('ZSCORE', P..'due', ref) or '0') > t then return nil end
  redis.call('HSET', P..'chunk:'..ref, 'state', 'running', 'token', token)
  local deliveries = redis.call('HINCRBY', P..'chunk:'..ref, 'deliveries', 1)
  redis.call('ZADD', P..'due', t + lease, ref)
  mark_stage(stage, 'had')
  start(id)
  local size = tonumber(job.chunk)
  return {ref, deliveries, c[3], job.collection, num * size, math.min((num + 1) * size, tonumber(job.total)),
    job.version or '0', job.kind or 'ingest', job.options or '{}', number(redis.call('HGET', P..'chunk:'..ref, 'postponed') or '0'),
    tostring(t - number(redis.call('ZSCORE', P..'stage:'..stage, ref) or t)), job.request_id or '', job.traceparent or ''}
end
