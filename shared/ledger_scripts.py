"""The Lua behind ledger.py: every state change of a job is one of these scripts, atomic in Redis.

Keys, all under `is:` (a single Redis, not a Cluster: scripts build their keys from the job's id):

    job:<job>        hash    the job: collection, total, chunk, gen, status, cursor, kind, options, result, finish, c0..c5 (items a state), …
    states:<job>     string  the state map, one byte an item: the digit of models.ITEM_STATES
    errors:<job>     list    the first failures, JSON
    jobs             zset    every job by creation time
    open             list    jobs with items that were never enqueued, taken in turn
    chunk:<ref>      hash    a chunk on its road: stage, state (queued, running, delayed), token, deliveries, payload
    advanced:<claim> string  <ref>:<token> of a claim that was ended, for as long as its worker may ask again
    stage:<stage>    zset    chunks at a stage by the time they came
    due              zset    chunks by the time at which the sweeper must look at them
    reading          zset    jobs whose body is still being read, by the end of the reader's lease
    expiry           zset    finished jobs by the time at which they are deleted
    callbacks        zset    finished jobs whose callback is to be sent, by the time of the next try
    idem:<key>       string  "<digest> <job>" of an Idempotency-Key
    removed:<coll>   hash    image id (or * for the whole collection) -> version of its latest removal
    discarded        zset    <coll>/<image id> by the time at which its files were put aside
    workers          hash    worker id -> JSON of its latest heartbeat
    writer           string  the index writer's lease
    writer:wanted    string  who waits for that lease for one change, for a moment: the writer then yields it
    host:<host>      hash    a foreign host's token bucket and breaker (ledger_hosts.py)
    format           string  the ledger's (formats.py)
    clock            string  the latest version that was given out, in microseconds since the epoch
    totals           hash    since the beginning: items a terminal state, seconds of the encoders
"""

PRELUDE = """
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

local function split(ref)
  local id, gen, num, attempt = string.match(ref, '^(.+):(%d+):(%d+):(%d+)$')
  return id, tonumber(gen), tonumber(num), tonumber(attempt)
end

local function forget_chunk(ref)
  redis.call('DEL', P..'chunk:'..ref)
  redis.call('ZREM', P..'due', ref)
  for _, stage in ipairs({'fetch', 'encode', 'index'}) do redis.call('ZREM', P..'stage:'..stage, ref) end
end

-- A chunk arrives at a stage and waits there for a message to be delivered; the sweeper repeats a message
-- that was lost after `resend` seconds.
local function enter(ref, stage, payload, resend)
  local t = now()
  forget_chunk(ref)
  redis.call('HSET', P..'chunk:'..ref, 'stage', stage, 'state', 'queued', 'token', '', 'deliveries', 0,
    'payload', payload, 'resends', 0)
  redis.call('ZADD', P..'stage:'..stage, t, ref)
  redis.call('ZADD', P..'due', t + resend, ref)
end

local function mark_open(id)
  if job_field(id, 'open') ~= '1' then
    redis.call('HSET', P..'job:'..id, 'open', '1')
    redis.call('RPUSH', P..'open', id)
  end
end

local function count(id, state, by) redis.call('HINCRBY', P..'job:'..id, 'c'..state, by) end

local function is_open(state) return state == PENDING or state == FETCHED end

-- A job ends when its body was read and no item is open. A reindex then has one more chunk, beyond its items and
-- at the encode stage: the switch. `finish` is `sent` while that is on its way, `done` when there is none (any more).
local function settle(id)
  local key = P..'job:'..id
  local f = redis.call('HMGET', key, 'reading', 'c0', 'c1', 'c4', 'c5', 'total', 'finished', 'callback', 'kind', 'finish',
    'chunk', 'gen', 'result')
  if f[1] == '1' or number(f[2]) + number(f[3]) > 0 or f[7] ~= '' then return end
  if f[9] == 'reindex' and number(f[5]) == 0 and f[10] ~= 'done' then
    if f[10] ~= 'sent' then
      redis.call('HSET', key, 'finish', 'sent')
      -- The sweeper sends it, within a second.
      enter(id..':'..f[12]..':'..math.ceil(number(f[6]) / number(f[11]))..':0', 'encode', 'finish', 0)
    end
    return
  end
  local status = 'succeeded'
  if number(f[5]) > 0 then status = 'cancelled'
  elseif number(f[6]) > 0 and number(f[4]) == number(f[6]) then status = 'failed'
  elseif number(f[4]) > 0 then status = 'partial'
  elseif f[9] == 'reindex' and not (f[13] and cjson.decode(f[13]).switched) then status = 'partial' end
  local t = now()
  redis.call('HSET', key, 'status', status, 'finished', t)
  redis.call('ZADD', P..'expiry', t + job_number(id, 'ttl'), id)
  redis.call('ZREM', P..'reading', id)
  if f[8] ~= '' then redis.call('ZADD', P..'callbacks', t, id) end
end

local function start(id)
  if job_field(id, 'status') == 'queued' then redis.call('HSET', P..'job:'..id, 'status', 'running') end
  if job_field(id, 'started') == '' then redis.call('HSET', P..'job:'..id, 'started', now()) end
end

-- Two marks of (time, items done), at least ten seconds apart, carry the recent rate.
local function mark_rate(id)
  local key = P..'job:'..id
  local f = redis.call('HMGET', key, 'c2', 'c3', 'c4', 'mark_t')
  local t = now()
  if t - number(f[4]) >= 10 then
    local mark = redis.call('HMGET', key, 'mark_t', 'mark_n')
    redis.call('HSET', key, 'prev_t', mark[1] or '', 'prev_n', mark[2] or '',
      'mark_t', t, 'mark_n', number(f[1]) + number(f[2]) + number(f[3]))
  end
end

local function holds(ref, token)
  local id, gen = split(ref)
  return redis.call('HGET', P..'chunk:'..ref, 'token') == token and token ~= ''
    and job_field(id, 'gen') == tostring(gen)
end

local function claim(ref, stage, token, lease)
  local id, gen, num = split(ref)
  local job = redis.call('HMGET', P..'job:'..id, 'gen', 'chunk', 'total', 'collection', 'version', 'kind', 'options')
  if not job[1] or tonumber(job[1]) ~= gen then forget_chunk(ref) return nil end
  local c = redis.call('HMGET', P..'chunk:'..ref, 'stage', 'state', 'payload')
  if c[1] ~= stage or c[2] == 'delayed' then return nil end
  local t = now()
  if c[2] == 'running' and number(redis.call('ZSCORE', P..'due', ref) or '0') > t then return nil end
  redis.call('HSET', P..'chunk:'..ref, 'state', 'running', 'token', token)
  local deliveries = redis.call('HINCRBY', P..'chunk:'..ref, 'deliveries', 1)
  redis.call('ZADD', P..'due', t + lease, ref)
  start(id)
  local size = tonumber(job[2])
  return {ref, deliveries, c[3], job[4], num * size, math.min((num + 1) * size, tonumber(job[3])),
    job[5] or '0', job[6] or 'ingest', job[7] or '{}', number(redis.call('HGET', P..'chunk:'..ref, 'postponed') or '0'),
    tostring(t - number(redis.call('ZSCORE', P..'stage:'..stage, ref) or t))}
end
"""

# id collection total chunk_size callback reading reading_lease ttl idem_key digest idem_ttl most_items kind
# options -> the
# job's id, or the "<digest> <job>" that the key already stands for
CREATE = """
local id, collection, total, chunk, callback, reading = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]
if ARGV[9] ~= '' then
  local before = redis.call('GET', P..'idem:'..ARGV[9])
  if before then return before end
  redis.call('SET', P..'idem:'..ARGV[9], ARGV[10]..' '..id, 'EX', ARGV[11])
end
local t = now()
redis.call('HSET', P..'job:'..id, 'collection', collection, 'total', total, 'chunk', chunk, 'gen', 0,
  'callback', callback, 'reading', reading, 'truncated', '0', 'created', t, 'started', '', 'finished', '',
  'status', reading == '1' and 'running' or 'queued', 'cursor', 0, 'open', '0', 'ttl', ARGV[8],
  'kind', ARGV[13], 'options', ARGV[14],
  'version', versions(reading == '1' and tonumber(ARGV[12]) or total),
  'c0', total, 'c1', 0, 'c2', 0, 'c3', 0, 'c4', 0, 'c5', 0, 'mark_t', '', 'mark_n', '', 'prev_t', '', 'prev_n', '')
redis.call('SET', P..'states:'..id, string.rep(PENDING, total))
redis.call('ZADD', P..'jobs', t, id)
if reading == '1' then
  start(id)
  redis.call('ZADD', P..'reading', t + tonumber(ARGV[7]), id)
end
if total > 0 then mark_open(id) end
return ARGV[10]..' '..id
"""

# id count reading_lease -> 1, 0 when the body is no longer wanted (cancelled or given up), -1 without a job
EXTEND = """
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
"""

# id truncated -> 1, or -1 without a job
CLOSE = """
local id = ARGV[1]
if redis.call('EXISTS', P..'job:'..id) == 0 then return -1 end
if job_field(id, 'reading') == '1' then
  redis.call('HSET', P..'job:'..id, 'reading', '0', 'truncated', ARGV[2])
  redis.call('ZREM', P..'reading', id)
  if job_number(id, 'cursor') < job_number(id, 'total') then mark_open(id) end
  settle(id)
end
return 1
"""

# fetch_window encode_window index_window most resend -> refs that now wait for their fetch message
DISPATCH = """
local function next_chunk(id)
  local size, total = job_number(id, 'chunk'), job_number(id, 'total')
  local at = job_number(id, 'cursor')
  while at < total do
    local block = redis.call('GETRANGE', P..'states:'..id, at, at + 65535)
    local found = string.find(block, PENDING, 1, true)
    if found then
      local num = math.floor((at + found - 1) / size)
      -- A chunk that is still being read is sent when it is full.
      if (num + 1) * size > total and job_field(id, 'reading') == '1' then return nil end
      redis.call('HSET', P..'job:'..id, 'cursor', (num + 1) * size)
      return id..':'..job_field(id, 'gen')..':'..num..':0'
    end
    at = at + #block
  end
  return nil
end

local refs = {}
if redis.call('ZCARD', P..'stage:encode') >= tonumber(ARGV[2])
  or redis.call('ZCARD', P..'stage:index') >= tonumber(ARGV[3]) then return refs end
local held, open = 0, redis.call('LLEN', P..'open')
while #refs < tonumber(ARGV[4]) and held < open and redis.call('ZCARD', P..'stage:fetch') < tonumber(ARGV[1]) do
  local id = redis.call('LPOP', P..'open')
  if not id then break end
  -- A job that waits for busy hosts sends no more chunks to wait there too.
  local busy = job_number(id, 'held') > now()
  held = busy and held + 1 or 0
  local ref = not busy and next_chunk(id)
  if ref then
    redis.call('RPUSH', P..'open', id)
    enter(ref, 'fetch', '', tonumber(ARGV[5]))
    refs[#refs + 1] = ref
  elseif busy then
    redis.call('RPUSH', P..'open', id)
  elseif redis.call('EXISTS', P..'job:'..id) == 1 then
    redis.call('HSET', P..'job:'..id, 'open', '0')
    if job_field(id, 'reading') == '0' then redis.call('HSET', P..'job:'..id, 'cursor', job_field(id, 'total')) end
  end
end
return refs
"""

# ref stage token lease -> {ref, deliveries, payload, collection, first, last, version, kind, options, postponed, waited}, or nothing
CLAIM = "return claim(ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]))"

# stage token lease most_items -> a list of claims, oldest chunk first
CLAIM_READY = """
local claims, items = {}, 0
for _, ref in ipairs(redis.call('ZRANGE', P..'stage:'..ARGV[1], 0, -1)) do
  local c = claim(ref, ARGV[1], ARGV[2], tonumber(ARGV[3]))
  if c then
    claims[#claims + 1] = c
    items = items + c[6] - c[5]
    if items + c[6] - c[5] > tonumber(ARGV[4]) then break end
  end
end
return claims
"""

# stage -> {waiting, running}; what DISPATCH lets in bounds how many there are
QUEUE = """
local refs, running = redis.call('ZRANGE', P..'stage:'..ARGV[1], 0, -1), 0
for _, ref in ipairs(refs) do
  if redis.call('HGET', P..'chunk:'..ref, 'state') == 'running' then running = running + 1 end
end
return {#refs - running, running}
"""

# token lease ref... -> how many of the leases are still held
RENEW = """
local held, t = 0, now()
for i = 3, #ARGV do
  if holds(ARGV[i], ARGV[1]) then
    redis.call('ZADD', P..'due', t + tonumber(ARGV[2]), ARGV[i])
    held = held + 1
  end
end
return held
"""

# ref token next_stage payload moves errors retry_delay resend most_errors result hold repeat -> 1, or 0 when the
# lease was lost. An answer may get lost, not the change: for `repeat` seconds the same claim is told 1 again.
# `moves`: JSON [[index, state], …]; an item that is no longer open stays as it is. `result`: JSON of the job's, or ''.
# `hold`: seconds for which the job sends no more chunks, above 0 when this attempt was postponed and does not count.
ADVANCE = """
local ref, token, next_stage = ARGV[1], ARGV[2], ARGV[3]
local advanced = P..'advanced:'..ref..':'..token
if not holds(ref, token) then return redis.call('EXISTS', advanced) end
redis.call('SET', advanced, '', 'EX', ARGV[12])
local id, gen, num, attempt = split(ref)
local states = P..'states:'..id
local failed = {}
for _, move in ipairs(cjson.decode(ARGV[5])) do
  local at, to = move[1], tostring(move[2])
  local from = redis.call('GETRANGE', states, at, at)
  if is_open(from) and from ~= to then
    redis.call('SETRANGE', states, at, to)
    count(id, from, -1)
    count(id, to, 1)
    if to ~= FETCHED then redis.call('HINCRBY', P..'totals', to, 1) end
    if to == FAILED then failed[at] = true end
  end
end
for _, error in ipairs(cjson.decode(ARGV[6])) do
  if failed[error.index] and redis.call('LLEN', P..'errors:'..id) < tonumber(ARGV[9]) then
    redis.call('RPUSH', P..'errors:'..id, cjson.encode(error))
  end
end
local delay, hold = tonumber(ARGV[7]), tonumber(ARGV[11])
local postponed = number(redis.call('HGET', P..'chunk:'..ref, 'postponed') or '0') + (hold > 0 and 1 or 0)
forget_chunk(ref)
if next_stage ~= '' then enter(ref, next_stage, ARGV[4], tonumber(ARGV[8])) end
if delay >= 0 then
  local again = id..':'..gen..':'..num..':'..(attempt + 1)
  redis.call('HSET', P..'chunk:'..again, 'stage', 'fetch', 'state', 'delayed', 'token', '', 'deliveries', 0,
    'payload', '', 'resends', 0, 'postponed', postponed)
  redis.call('ZADD', P..'due', now() + delay, again)
end
if hold > 0 then redis.call('HSET', P..'job:'..id, 'held', now() + hold) end
if ARGV[10] ~= '' then redis.call('HSET', P..'job:'..id, 'result', ARGV[10]) end
if num * job_number(id, 'chunk') >= job_number(id, 'total') then redis.call('HSET', P..'job:'..id, 'finish', 'done') end
mark_rate(id)
settle(id)
return 1
"""

# token delay counted ref... -> how many were given back; `counted` 0 takes the delivery back
RELEASE = """
local t, released = now(), 0
for i = 4, #ARGV do
  if holds(ARGV[i], ARGV[1]) then
    redis.call('HSET', P..'chunk:'..ARGV[i], 'state', 'delayed', 'token', '')
    if ARGV[3] == '0' then redis.call('HINCRBY', P..'chunk:'..ARGV[i], 'deliveries', -1) end
    redis.call('ZADD', P..'due', t + tonumber(ARGV[2]), ARGV[i])
    released = released + 1
  end
end
return released
"""

# most unsent -> {stage, ref, …}: chunks whose message must be sent (again); if SENT does not follow within `unsent`
# seconds, the answer or its reader got lost, and they are due again.
SWEEP = """
local t, out = now(), {}
for _, ref in ipairs(redis.call('ZRANGEBYSCORE', P..'due', '-inf', t, 'LIMIT', 0, tonumber(ARGV[1]))) do
  local id, gen = split(ref)
  local c = redis.call('HMGET', P..'chunk:'..ref, 'stage', 'state')
  if not c[1] or redis.call('EXISTS', P..'job:'..id) == 0 or job_number(id, 'gen') ~= gen then
    forget_chunk(ref)
  else
    if c[2] == 'queued' then redis.call('HINCRBY', P..'chunk:'..ref, 'resends', 1) end
    redis.call('HSET', P..'chunk:'..ref, 'state', 'queued', 'token', '')
    redis.call('ZADD', P..'stage:'..c[1], 'NX', t, ref)
    redis.call('ZADD', P..'due', t + tonumber(ARGV[2]), ref)
    out[#out + 1] = c[1]
    out[#out + 1] = ref
  end
end
return out
"""

# resend index_resend ref... -> nothing: their messages were sent. One that only waits behind others is repeated
# ever more rarely.
SENT = """
for i = 3, #ARGV do
  local c = redis.call('HMGET', P..'chunk:'..ARGV[i], 'stage', 'state', 'resends')
  if c[2] == 'queued' then
    local wait = tonumber(c[1] == 'index' and ARGV[2] or ARGV[1])
    redis.call('ZADD', P..'due', now() + wait * 2 ^ math.min(number(c[3]), 5), ARGV[i])
  end
end
"""

# id -> 1, 0 when the job had ended, -1 without a job
CANCEL = """
local id = ARGV[1]
if redis.call('EXISTS', P..'job:'..id) == 0 then return -1 end
if job_field(id, 'finished') ~= '' then return 0 end
local map, changed = string.gsub(redis.call('GET', P..'states:'..id) or '', '[01]', CANCELLED)
redis.call('SET', P..'states:'..id, map)
redis.call('HSET', P..'job:'..id, 'c0', 0, 'c1', 0, 'reading', '0', 'status', 'cancelled', 'finish', 'done')
count(id, CANCELLED, changed)
redis.call('HINCRBY', P..'totals', CANCELLED, changed)
redis.call('HINCRBY', P..'job:'..id, 'gen', 1)
-- Chunks on their way belong to the generation before: they free their places at once.
for _, stage in ipairs({'fetch', 'encode', 'index'}) do
  for _, ref in ipairs(redis.call('ZRANGE', P..'stage:'..stage, 0, -1)) do
    if split(ref) == id then forget_chunk(ref) end
  end
end
start(id)
settle(id)
redis.call('HSET', P..'job:'..id, 'status', 'cancelled')
return 1
"""

# id -> how many items are open again, -2 while the job runs, -1 without a job
RETRY = """
local id = ARGV[1]
if redis.call('EXISTS', P..'job:'..id) == 0 then return -1 end
if job_field(id, 'finished') == '' then return -2 end
local failed = job_number(id, 'c4')
if failed == 0 then return 0 end
redis.call('SET', P..'states:'..id, (string.gsub(redis.call('GET', P..'states:'..id), FAILED, PENDING)))
redis.call('HSET', P..'job:'..id, 'c4', 0, 'cursor', 0, 'finished', '', 'status', 'queued', 'started', '',
  'mark_t', '', 'mark_n', '', 'prev_t', '', 'prev_n', '', 'callback_tries', 0, 'finish', '',
  'base', job_number(id, 'c2') + job_number(id, 'c3'))
count(id, PENDING, failed)
redis.call('HINCRBY', P..'job:'..id, 'gen', 1)
redis.call('DEL', P..'errors:'..id)
redis.call('ZREM', P..'expiry', id)
redis.call('ZREM', P..'callbacks', id)
mark_open(id)
return failed
"""

# -> a version for one change, in microseconds
NEW_VERSION = "return versions(1)"

# token ttl_ms -> 1 when the lease is this token's now; 0 while it is another's, or while another asks for it
ACQUIRE_WRITER = """
local asking = redis.call('GET', P..'writer:wanted')
if asking and asking ~= ARGV[1] then return 0 end
if not redis.call('SET', P..'writer', ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
if asking then redis.call('DEL', P..'writer:wanted') end
return 1
"""

# token ttl_ms -> 1 when this token is the one that asks
WANT_WRITER = """
local asking = redis.call('GET', P..'writer:wanted')
if asking and asking ~= ARGV[1] then return 0 end
redis.call('SET', P..'writer:wanted', ARGV[1], 'PX', ARGV[2])
return 1
"""

# hold -> a job whose callback is due, for nobody else until `hold` seconds from now, or nothing
DUE_CALLBACK = """
local id = redis.call('ZRANGEBYSCORE', P..'callbacks', '-inf', now(), 'LIMIT', 0, 1)[1]
if id then redis.call('ZADD', P..'callbacks', now() + tonumber(ARGV[1]), id) end
return id
"""

# id -> 1: the expired job's keys are gone; 0 when it has not expired
FORGET_JOB = """
local id = ARGV[1]
local expiry = redis.call('ZSCORE', P..'expiry', id)
if not expiry or tonumber(expiry) > now() then return 0 end
for _, name in ipairs({'job:', 'states:', 'errors:'}) do redis.call('DEL', P..name..id) end
for _, name in ipairs({'jobs', 'expiry', 'callbacks', 'reading'}) do redis.call('ZREM', P..name, id) end
redis.call('LREM', P..'open', 0, id)
return 1
"""

# token ttl_ms -> 1 while the lease is (again) this token's
RENEW_WRITER = """
if redis.call('GET', P..'writer') ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', P..'writer', ARGV[2])
"""

# token force -> 1 when the lease is free now; 0, keeping it, while a chunk waits for the writer
RELEASE_WRITER = """
if redis.call('GET', P..'writer') ~= ARGV[1] then return 1 end
if ARGV[2] == '0' then
  for _, ref in ipairs(redis.call('ZRANGE', P..'stage:index', 0, -1)) do
    if redis.call('HGET', P..'chunk:'..ref, 'state') == 'queued' then return 0 end
  end
end
return redis.call('DEL', P..'writer')
"""
