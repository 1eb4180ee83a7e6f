// What an audit record of tokenvend says about each step of a request.
const SOURCES = {
  minted: ['no usable token', 'called, issued a new token'],
  cache: ['valid token', 'not called'],
  stale: ['token near expiry, still valid', 'failed, so the cached token serves'],
};

const OUTCOMES = {
  origin_not_allowed: ['not reached: the origin is not listed'],
  invalid_request: ['not reached: the request is invalid'],
  unauthenticated: ['rejected: no session'],
  session_check_unavailable: ['no answer from the backend'],
  rate_limited: ['accepted, but over RATE_LIMIT'],
  upstream_unavailable: ['accepted', 'no usable token', 'unavailable'],
  upstream_timeout: ['accepted', 'no usable token', 'no answer in time'],
};

const NOT_REACHED = 'not reached';

// Returns the texts for session check, cache, Sethealth and answer.
export function steps({ outcome, status, source, token_sha256: id, duration }) {
  const [session, cache = NOT_REACHED, sethealth = NOT_REACHED] = outcome === 'ok'
    ? ['accepted', ...(SOURCES[source] ?? [source, source])]
    : OUTCOMES[outcome] ?? ['unknown', 'unknown', 'unknown'];
  const time = duration < 0.01 ? `${(duration * 1000).toFixed(1)} ms` : `${Math.round(duration * 1000)} ms`;
  return { session, cache, sethealth, answer: `${status} ${outcome === 'ok' ? `token ${id}` : outcome}, after ${time}` };
}
