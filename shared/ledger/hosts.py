"""The ledger's part of politeness: how fast the whole fleet may ask each foreign host, and whether at all."""

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from shared.errors import ItemError

FAILURES_TO_OPEN = 10  # in a row: one lost picture says nothing about its host
OPEN_S, LONGEST_OPEN_S = 30.0, 300.0
PROBE_S = 30.0  # how long the others wait for what the one try after an open breaker brings
_FORGET_S = 3600

# host interval burst longest_wait forget probe -> {wait, failures, error}: `error` with an open breaker, that
# ends in `wait`; a `wait` above the longest reserves nothing. The bucket is a GCRA: at `next` it is full.
_TURN = """
local key = P..'host:'..ARGV[1]
local interval, t = tonumber(ARGV[2]), now()
local f = redis.call('HMGET', key, 'next', 'paused', 'open', 'failures', 'error')
local open, failures = number(f[3]), number(f[4])
if open > t then return {tostring(open - t), failures, f[5]} end
local full = math.max(number(f[1]), number(f[2]), t)
local wait = math.max(full - t - (tonumber(ARGV[3]) - 1) * interval, number(f[2]) - t, 0)
if wait > tonumber(ARGV[4]) then return {tostring(wait), failures, ''} end
if f[5] and f[5] ~= '' then redis.call('HSET', key, 'open', t + wait + tonumber(ARGV[6])) end
redis.call('HSET', key, 'next', full + interval)
redis.call('EXPIRE', key, ARGV[5])
return {tostring(wait), failures, ''}
"""

# host error pause failures_to_open open_s longest_open_s forget
_FAILED = """
local key = P..'host:'..ARGV[1]
local t, pause = now(), tonumber(ARGV[3])
local failures = redis.call('HINCRBY', key, 'failures', 1)
local f = redis.call('HMGET', key, 'paused', 'opened', 'until')
if pause > 0 then redis.call('HSET', key, 'paused', math.max(number(f[1]), t + pause)) end
local opened = number(f[2])
-- What was under way when the breaker opened is not news; a failed probe is.
if failures >= tonumber(ARGV[4]) and t > number(f[3]) then
  local open = math.max(math.min(tonumber(ARGV[5]) * 2 ^ opened, tonumber(ARGV[6])), pause)
  redis.call('HSET', key, 'open', t + open, 'until', t + open, 'opened', opened + 1, 'error', ARGV[2])
end
redis.call('EXPIRE', key, ARGV[7])
"""


@dataclass(frozen=True, slots=True)
class HostTurn:
    """When a host may be asked: in `wait_s`, unless `refusal` says why it is not asked at all meanwhile.

    `failures` is how often it has failed in a row.
    """

    wait_s: float
    failures: int
    refusal: ItemError | None


class HostLedger(ABC):
    """A token bucket and a circuit breaker a host, shared by every worker."""

    @abstractmethod
    def _run(self, script: str, *args: str | float) -> Any: ...

    @abstractmethod
    def _call(self, command: str, *args: Any, **options: Any) -> Any: ...

    def host_turn(self, host: str, rate_per_s: float, longest_wait_s: float) -> HostTurn:
        """Reserves the next turn at `host`, unless that is more than `longest_wait_s` away.

        A second's worth of requests may go at once. An open breaker lets one try through when its time is
        over, and the rest once that has brought an answer.
        """
        burst = max(1, math.floor(rate_per_s))
        wait, failures, error = self._run(
            _TURN, host, 1 / rate_per_s, burst, longest_wait_s, _FORGET_S, PROBE_S
        )
        return HostTurn(float(wait), int(failures), _refusal(error, int(failures)) if error else None)

    def host_answered(self, host: str) -> None:
        """The host works: its breaker closes."""
        self._call("hdel", f"is:host:{host}", "failures", "open", "until", "opened", "error")

    def host_failed(self, host: str, error: ItemError, pause_s: float) -> None:
        """Counts a failure; `pause_s` is what the host's Retry-After asked for, which holds for all.

        After FAILURES_TO_OPEN in a row the breaker opens for OPEN_S, doubling each time that the next try
        fails too.
        """
        kept = json.dumps([error.code, error.detail, error.http_status])
        self._run(_FAILED, host, kept, pause_s, FAILURES_TO_OPEN, OPEN_S, LONGEST_OPEN_S, _FORGET_S)


def _refusal(kept: str, failures: int) -> ItemError:
    code, detail, http_status = json.loads(kept)
    said = f"not asked: the host has failed {failures} times in a row, the last time with: {detail}"
    return ItemError(code, said, http_status=http_status)
