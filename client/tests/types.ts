// Compiled, never run: each line must be as right or as wrong as it says.
import { keepSignedIn, TokenError, type State, type TokenSource } from '../client.js';

const sethealth = { auth: { setAccessToken: (token: string): Promise<void> => Promise.resolve(void token) } };

const source: TokenSource = keepSignedIn({
  url: new URL('https://tokens.example.com/token'),
  onToken: (token) => sethealth.auth.setAccessToken(token),
});
keepSignedIn({
  url: '/token',
  user: 'alice',
  credentials: 'same-origin',
  headers: async ({ refused }) => ({ Authorization: refused ? 'Bearer y' : 'Bearer x' }),
  onToken: (token, { expiresIn, fromTab }) => [token.length, expiresIn?.toFixed(), fromTab === true],
  onSignedOut: (error) => error.code.length,
  onError: ({ code, status, requestId, retryAfter }) => [code, status, requestId, retryAfter],
  signal: new AbortController().signal,
});
// What is not known yet may be undefined, though exactOptionalPropertyTypes is on.
const me = undefined as { id: string } | undefined;
keepSignedIn({ url: '/token', onToken() {}, user: me?.id, onSignedOut: undefined, headers: undefined, signal: undefined });
keepSignedIn({ url: '/token', onToken() {}, headers: () => null });
// @ts-expect-error onToken is required
keepSignedIn({ url: '/token' });
// @ts-expect-error there is no such option
keepSignedIn({ url: '/token', onToken() {}, storage: true });

const life: Promise<string> = source.token({ minLife: 1800 });
const again: Promise<string> = source.refresh();
const state: State = source.state;
const end: number | undefined = state.expiresAt;
// @ts-expect-error it is a snapshot
state.status = 'stopped';
// @ts-expect-error no such status
if (state.status === 'broken') source.stop();
source.signOut();
const error: Error = new TokenError('network', { cause: life });
export { again, end, error };
