-- resend index_resend ref... -> nothing: their messages were sent. One that only waits behind others is repeated
-- ever more rarely.
for i = 3, #ARGV do
  local c = redis.call('HMGET', P..'chunk:'..ARGV[i], 'stage', 'state', 'resends')
  if c[2] == 'queued' then
    local wait = tonumber(c[1] == 'index' and ARGV[2] or ARGV[1])
    redis.call('ZADD', P..'due', now() + wait * 2 ^ math.min(number(c[3]), 5), ARGV[i])
  end
end
