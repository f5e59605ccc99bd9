-- most unsent -> {stage, ref, …}: chunks whose message must be sent (again); if SENT does not follow within `unsent`
-- seconds, the answer or its reader got lost, and they are due again.
local t, out = now(), {}
for _, ref in ipairs(redis.call('ZRANGEBYSCORE', P..'due', '-inf', t, 'LIMIT', 0, tonumber(ARGV[1]))) do
  local id, gen = split(ref)
  local c = redis.call('HMGET', P..'chunk:'..ref, 'stage', 'state', 'payload')
  if not c[1] or redis.call('EXISTS', P..'job:'..id) == 0 or job_number(id, 'gen') ~= gen then
    forget_chunk(ref)
  else
    if c[2] == 'queued' then redis.call('HINCRBY', P..'chunk:'..ref, 'resends', 1) end
    redis.call('HSET', P..'chunk:'..ref, 'state', 'queued', 'token', '')
    await_message(ref, c[1], c[3], t)
    redis.call('ZADD', P..'due', t + tonumber(ARGV[2]), ref)
    out[#out + 1] = c[1]
    out[#out + 1] = ref
  end
end
return out
