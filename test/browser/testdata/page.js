// ask fetches and returns all that a page can see of the response.
window.ask = async (url, init) => {
  try {
    const answer = await fetch(url, { method: 'POST', ...init });
    const text = await answer.text();
    const header = (name) => answer.headers.get(name) ?? '';
    return {
      ...(answer.headers.get('Content-Type')?.includes('json') ? JSON.parse(text) : { text }),
      type: answer.type,
      status: answer.status,
      retryAfter: header('Retry-After'),
      requestId: header('X-Request-Id'),
      contentType: header('Content-Type'),
    };
  } catch (error) {
    return { failed: error.name };
  }
};

window.violations = [];
document.addEventListener('securitypolicyviolation', (e) => violations.push(`${e.effectiveDirective} ${e.blockedURI}`));

window.told = { tokens: [], errors: [], out: [] };
const plain = ({ code }) => ({ code });

// keep starts the module and records its callbacks in told. Without bearer, the session is a cookie.
window.keep = async (origin, { bearer, ...options } = {}) => {
  const { keepSignedIn } = await import(`${origin}/client.js`);
  window.source = keepSignedIn({
    url: `${origin}/token`,
    headers: bearer && (async () => ({ Authorization: `Bearer ${bearer}` })),
    onToken: (token, info) => { told.tokens.push({ token, ...info }); },
    onError: (error) => { told.errors.push(plain(error)); },
    onSignedOut: (error) => { told.out.push(plain(error)); },
    ...options,
  });
};

// outcome returns the token of a promise, or the code of its error.
window.outcome = (promise) => promise.then((token) => ({ token }), (error) => plain(error));
