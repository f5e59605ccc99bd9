-- ref stage token lease -> {ref, deliveries, payload, collection, first, last, version, kind, options, postponed, waited,
-- request_id, traceparent}, or nothing
return claim(ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]))
