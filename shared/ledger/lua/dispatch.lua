-- fetch_window encode_window index_window most resend -> refs that now wait for their fetch message
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
if redis.call('ZCARD', P..'stage:index') >= tonumber(ARGV[3]) then return refs end
local encode_full = redis.call('ZCARD', P..'stage:encode') >= tonumber(ARGV[2])
local held, open = 0, redis.call('LLEN', P..'open')
while #refs < tonumber(ARGV[4]) and held < open do
  -- Exports pass by what waits for a model that cannot be had; looked for among a few jobs, others the next time.
  local waiting = redis.call('ZCARD', P..'stage:fetch') - redis.call('SCARD', P..'aside')
  local full = encode_full or waiting >= tonumber(ARGV[1])
  if full and (held >= 8 or waiting >= tonumber(ARGV[1]) + 4) then break end
  local id = redis.call('LPOP', P..'open')
  if not id then break end
  -- A job that waits for busy hosts sends no more chunks to wait there too.
  local busy = job_number(id, 'held') > now() or (full and job_field(id, 'kind') ~= 'export')
  -- Nor does one with `since` while its list is read, or compared with the earlier one: its chunks would fill the slots.
  local waits = redis.call('EXISTS', P..'joining:'..id) == 1 or (job_field(id, 'reading') == '1'
    and string.find(job_field(id, 'options') or '', '"since"', 1, true) ~= nil)
  busy = busy or waits
  held = busy and held + 1 or 0
  local ref = not busy and next_chunk(id)
  if ref then
    redis.call(full and 'LPUSH' or 'RPUSH', P..'open', id)
    queue_chunk(ref, 'fetch', '', tonumber(ARGV[5]))
    refs[#refs + 1] = ref
  elseif busy then
    redis.call('RPUSH', P..'open', id)
  elseif redis.call('EXISTS', P..'job:'..id) == 1 then
    redis.call('HSET', P..'job:'..id, 'open', '0')
    if job_field(id, 'reading') == '0' then redis.call('HSET', P..'job:'..id, 'cursor', job_field(id, 'total')) end
  end
end
return refs
