-- One line of JSON at the end of a wrk run, for meshd/bench/wrk.py. Latencies are pairs of microseconds and count.
done = function(summary, latency, requests)
  local errors, pairs = summary.errors, {}
  for i = 1, #latency do
    local value, count = latency(i)
    pairs[i] = string.format("[%d,%d]", value, tonumber(count))
  end
  io.write(string.format(
    '\nREPORT {"requests": %d, "microseconds": %d, "bytes": %d, "errors": %d, "latencies": [%s]}\n',
    summary.requests, summary.duration, tonumber(summary.bytes),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    table.concat(pairs, ",")))
end
