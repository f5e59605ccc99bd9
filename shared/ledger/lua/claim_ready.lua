-- stage token lease most_items -> a list of claims, oldest chunk first
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
