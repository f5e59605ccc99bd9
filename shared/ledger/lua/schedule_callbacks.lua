-- -> nothing: callbacks that an older version left in one line, of jobs, stand in those of their hosts.
for _, id in ipairs(redis.call('ZRANGE', P..'callbacks', 0, -1)) do
  await_callback(id, now())
end
redis.call('DEL', P..'callbacks')
