-- stage -> {waiting, running}; what DISPATCH lets in bounds how many there are
local refs, running = redis.call('ZRANGE', P..'stage:'..ARGV[1], 0, -1), 0
for _, ref in ipairs(refs) do
  if redis.call('HGET', P..'chunk:'..ref, 'state') == 'running' then running = running + 1 end
end
return {#refs - running, running}
