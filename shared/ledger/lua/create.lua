-- JSON of Ledger.create -> "<digest> <job>", also of the earlier job that the idempotency key stands for; or, as a list, what
-- is in the way: the limit that leaves no room, `not_due`, or `syncing` and the job that does
local new = cjson.decode(ARGV[1])
local id, total = new.id, new.total
if new.idempotency_key ~= '' then
  local before = redis.call('GET', P..'idem:'..new.idempotency_key)
  if before then return before end
end
if new.due_at ~= '' and number(redis.call('ZSCORE', P..'sources', new.source) or '-1') ~= new.due_at then return {'not_due'} end
if new.source ~= '' and syncing(new.source) then return {'syncing', syncing(new.source)} end
if new.group ~= '' and redis.call('ZCARD', P..'group:'..new.group) >= new.most_of_group then return {'group'} end
local full = make_room(new.by, 1, new.bytes, new.most_jobs, new.most_bytes)
if full then return {full} end
if new.idempotency_key ~= '' then
  redis.call('SET', P..'idem:'..new.idempotency_key, new.digest..' '..id, 'EX', new.idempotency_ttl)
end
local t = now()
redis.call('HSET', P..'job:'..id, 'collection', new.collection, 'total', total, 'chunk', new.chunk_size, 'gen', 0,
  'callback', new.callback, 'reading', new.reading and '1' or '0', 'truncated', '0', 'created', t, 'started', '',
  'finished', '', 'status', new.reading and 'running' or 'queued', 'cursor', 0, 'open', '0', 'ttl', new.ttl,
  'kind', new.kind, 'options', new.options, 'final_stage', new.final_stage,
  'incomplete', new.final_stage ~= '' and '1' or '0', 'version', versions(new.versions),
  'by', new.by, 'bytes', new.bytes, 'idempotency', new.idempotency_key,
  'name', new.name, 'origin', new.origin, 'made_of', new.made_of, 'group', new.group, 'notes', new.notes,
  'request_id', new.request_id, 'traceparent', new.traceparent,
  'c0', total, 'c1', 0, 'c2', 0, 'c3', 0, 'c4', 0, 'c5', 0, 'c6', 0, 'c7', 0, 'c8', 0, 'mark_t', '', 'mark_n', '', 'prev_t', '', 'prev_n', '')
redis.call('SET', P..'states:'..id, string.rep(PENDING, total))
redis.call('ZADD', P..'jobs', t, id)
if new.group ~= '' then redis.call('ZADD', P..'group:'..new.group, t, id) end
add_bytes(new.by, new.bytes)
activate(id, new.by, new.bytes)
if new.reading then
  start(id)
  redis.call('ZADD', P..'reading', t + new.reading_lease, id)
end
if new.source ~= '' then
  redis.call('HSET', P..'job:'..id, 'source', new.source)
  redis.call('HSET', P..'syncing', new.source, id)
  if new.next_due ~= '' then redis.call('ZADD', P..'sources', new.next_due, new.source) end
end
if new.begins then
  redis.call('HSET', P..'job:'..id, 'plan', 'awaited')
  queue_chunk(id..':0:0:0', 'fetch', 'begin', new.resend)
end
if total > 0 then mark_open(id) end
return new.digest..' '..id
