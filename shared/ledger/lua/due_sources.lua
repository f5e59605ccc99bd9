-- now ('' for Redis's) limit -> {source, due, …}: those that are due and not being synced, the longest due first
local till, out = ARGV[1] == '' and now() or ARGV[1], {}
local due = redis.call('ZRANGEBYSCORE', P..'sources', '-inf', till, 'WITHSCORES')
for i = 1, #due, 2 do
  if #out >= 2 * tonumber(ARGV[2]) then break end
  if not syncing(due[i]) then
    out[#out + 1] = due[i]
    out[#out + 1] = due[i + 1]
  end
end
return out
