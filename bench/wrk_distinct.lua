-- Requests whose heads differ: 50,000 of them in turn, made beforehand so that wrk has no work with them.
local requests, at = {}, 0

init = function(args)
  for i = 1, 50000 do
    requests[i] = wrk.format("GET", wrk.path .. "?" .. i)
  end
end

request = function()
  at = at % #requests + 1
  return requests[at]
end

dofile(debug.getinfo(1, "S").source:match("@(.*/)") .. "../meshd/bench/wrk_report.lua")
