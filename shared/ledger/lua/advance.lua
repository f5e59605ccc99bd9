-- JSON of Ledger.advance -> 1, or 0 when the lease was lost. An answer may get lost, not the change: for `repeat_s`
-- the same claim is told 1 again. `transitions`: [[index, state], …]; an item that is no longer open stays as it is.
-- `transient`: the indices of errors that may not come again. `waiting`: "<items>:<attempt>:<attempts>" of those that are
-- tried again after `retry_delay`, or empty.
-- `hold`: seconds for which the job sends no more chunks, above 0 when this attempt was postponed and does not count.
local a = cjson.decode(ARGV[1])
local ref, token = a.ref, a.token
local advanced = P..'advanced:'..ref..':'..token
if not holds(ref, token) then return redis.call('EXISTS', advanced) end
redis.call('SET', advanced, '', 'EX', a.repeat_s)
local id, gen, num, attempt = split(ref)
local states = P..'states:'..id
local failed, items = {}, number(redis.call('HGET', P..'chunk:'..ref, 'items') or '0')
for _, move in ipairs(a.transitions) do
  local at, to = move[1], tostring(move[2])
  local from = redis.call('GETRANGE', states, at, at)
  if is_open(from) and from ~= to then
    redis.call('SETRANGE', states, at, to)
    count(id, from, -1)
    count(id, to, 1)
    if not is_open(to) then redis.call('HINCRBY', P..'totals', to, 1) end
    if to == FAILED then failed[at] = true end
    items = items + (to == FETCHED and 1 or from == FETCHED and -1 or 0)
  end
end
local transient = {}
for _, index in ipairs(a.transient) do transient[index] = true end
for _, error in ipairs(a.errors) do
  if failed[error.index] then
    redis.call('HINCRBY', P..'failures:'..id, error.code, 1)
    redis.call('HINCRBY', P..'totals', 'code:'..error.code, 1)
    if transient[error.index] then redis.call('HINCRBY', P..'failures:'..id, error.code..':transient', 1) end
    if redis.call('LLEN', P..'errors:'..id) < a.most_errors then
      redis.call('RPUSH', P..'errors:'..id, cjson.encode(error))
    end
  end
end
mark_stage(redis.call('HGET', P..'chunk:'..ref, 'stage'), 'had', 'passed')
local postponed = number(redis.call('HGET', P..'chunk:'..ref, 'postponed') or '0') + (a.hold > 0 and 1 or 0)
forget_chunk(ref)
if a.next_stage ~= '' then
  queue_chunk(ref, a.next_stage, a.payload, a.resend)
  redis.call('HSET', P..'chunk:'..ref, 'items', math.max(items, 0)) -- one of an earlier version did not say how many
end
if a.retry_delay >= 0 then
  local again = id..':'..gen..':'..num..':'..(attempt + 1)
  redis.call('HSET', P..'chunk:'..again, 'stage', 'fetch', 'state', 'delayed', 'token', '', 'deliveries', 0,
    'payload', '', 'resends', 0, 'postponed', postponed)
  local due = now() + a.retry_delay
  redis.call('ZADD', P..'due', due, again)
  if a.waiting ~= '' then
    local member = num..':'..a.waiting
    redis.call('HSET', P..'chunk:'..again, 'waits', member)
    redis.call('ZADD', P..'retrying:'..id, due, member)
    redis.call('HINCRBY', P..'job:'..id, 'waiting', string.match(a.waiting, '^%d+'))
  end
end
if a.hold > 0 then redis.call('HSET', P..'job:'..id, 'held', now() + a.hold) end
if a.result ~= '' then redis.call('HSET', P..'job:'..id, 'result', a.result) end
if a.complete then redis.call('HSET', P..'job:'..id, 'incomplete', '0') end
-- The begin chunk ended without a plan: there is none to be made, as of a dry run, or none can be.
if job_field(id, 'plan') == 'awaited' then redis.call('HSET', P..'job:'..id, 'plan', a.complete and '' or 'failed') end
if num * job_number(id, 'chunk') >= job_number(id, 'total') then redis.call('HSET', P..'job:'..id, 'finish', 'done') end
mark_rate(id)
finish_if_done(id)
return 1
