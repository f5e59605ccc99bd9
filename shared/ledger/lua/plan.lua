-- JSON of Ledger.plan, the state map -> as advance.lua. `counts`: of the map's states, in their order.
local a, map = cjson.decode(ARGV[1]), ARGV[2]
local advanced = P..'advanced:'..a.ref..':'..a.token
if not holds(a.ref, a.token) then return redis.call('EXISTS', advanced) end
redis.call('SET', advanced, '', 'EX', a.repeat_s)
local id, t, ended = split(a.ref), now(), 0
mark_stage(redis.call('HGET', P..'chunk:'..a.ref, 'stage'), 'had', 'passed')
forget_chunk(a.ref)
redis.call('SET', P..'states:'..id, map)
for i, items in ipairs(a.counts) do
  local state = tostring(i - 1)
  redis.call('HSET', P..'job:'..id, 'c'..state, items)
  if items > 0 and not is_open(state) then
    redis.call('HINCRBY', P..'totals', state, items)
    ended = ended + items
  end
end
-- What ended at once says nothing of how fast the others will.
redis.call('HSET', P..'job:'..id, 'plan', 'made', 'total', #map, 'notes', a.notes, 'base', ended,
  'mark_t', t, 'mark_n', ended, 'prev_t', t, 'prev_n', ended)
local by = job_field(id, 'by')
redis.call('HINCRBY', P..'job:'..id, 'bytes', a.bytes)
add_bytes(by, a.bytes)
add_bytes(by..':active', a.bytes)
if ended < #map then mark_open(id) end
finish_if_done(id)
return 1
