-- Load by wrk for `serving.py`: thread I sends the request in FOLDER/request.I over and over, and
-- compares the end of each answer with FOLDER/right.I if that is there. FOLDER is the argument.

local threads = {}

local function bytes(path)
  local file = io.open(path, "rb")
  if not file then
    return nil
  end
  local found = file:read("*a")
  file:close()
  return found
end

function setup(thread)
  thread:set("index", #threads)
  table.insert(threads, thread)
end

function init(args)
  local request = bytes(args[1] .. "/request." .. index)
  right = bytes(args[1] .. "/right." .. index)
  good, wrong, refused = 0, 0, 0
  wrk.format = function()
    return request
  end
end

function response(status, headers, body)
  if status ~= 200 then
    refused = refused + 1
  elseif right and body:sub(-#right) ~= right then
    wrong = wrong + 1
  else
    good = good + 1
  end
end

function done(summary, latency)
  local count = { good = 0, wrong = 0, refused = 0 }
  for _, thread in ipairs(threads) do
    for name, sum in pairs(count) do
      count[name] = sum + thread:get(name)
    end
  end
  local errors = summary.errors
  io.write(
    string.format(
      '{"good": %d, "wrong": %d, "refused": %d, "lost": %d, "seconds": %f, "p50": %f, "p99": %f}\n',
      count.good,
      count.wrong,
      count.refused,
      errors.connect + errors.read + errors.write + errors.timeout,
      summary.duration / 1e6,
      latency:percentile(50) / 1e3,
      latency:percentile(99) / 1e3
    )
  )
end
