/**
 * How a {@link TokenSource} does.
 *
 * - `starting`: there is no living token yet, and one is being fetched
 * - `signed-in`: the token lives
 * - `retrying`: the last fetch failed and is tried again; the token may still live, see `expiresAt`
 * - `signed-out`: nobody is signed in any more; final
 * - `failed`: the server's answer was one that a later try would not change; final
 * - `stopped`: by `stop()` or the `AbortSignal`; final
 */
export type Status = 'starting' | 'signed-in' | 'retrying' | 'signed-out' | 'failed' | 'stopped';

/** A snapshot. It never holds the token. */
export interface State {
  readonly status: Status;
  /** When the token ends, in milliseconds since the epoch by this device's clock; undefined if there is none, or its life is not known. */
  readonly expiresAt: number | undefined;
  /** When the next fetch is due, likewise; undefined if none is. */
  readonly nextFetchAt: number | undefined;
  /** Why the last fetch failed, or why the source ended; undefined once there is a new token. */
  readonly lastError: TokenError | undefined;
}

/** What is known of a token. */
export interface TokenInfo {
  /** Seconds of life left; undefined if the server did not say. */
  readonly expiresIn: number | undefined;
  /** Whether another tab fetched it. */
  readonly fromTab: boolean;
}

/** Options of {@link keepSignedIn}. */
export interface KeepSignedInOptions {
  /** The token server's `/token`. A relative one is the page's own origin. */
  url: string | URL;
  /**
   * Called with each new token, for `sethealth.auth.setAccessToken`. If it throws or rejects, `onError` is
   * told with the code `on_token_failed`.
   */
  onToken: (token: string, info: TokenInfo) => unknown;
  /**
   * Who is signed in: any string that differs from user to user. With it, a tab that opens later is given
   * the living token by the others, and tabs whose user has changed are signed out. Without it, tabs
   * of a cookie session share only tokens fetched while both are open, and bearer sessions share nothing.
   */
  user?: string;
  /** Headers for each request, asked for anew each time: `async () => ({ Authorization: … })` for a bearer session. */
  headers?: () => HeadersInit | null | undefined | Promise<HeadersInit | null | undefined>;
  /** As of `fetch`. Default: `include` (the session is a cookie), or `same-origin` if there is `headers`. */
  credentials?: RequestCredentials;
  /**
   * Nobody is signed in any more; called at most once, and the source has ended. The code is
   * `unauthenticated` (the server said 401), `signed_out_elsewhere` (another tab), or `user_changed`
   * (another tab has somebody else's session). Not called for one's own `signOut()`.
   */
  onSignedOut?: (error: TokenError) => unknown;
  /**
   * Something failed: called once for each episode, and again when its code changes; not for every retry.
   * `source.state.status` tells whether it is over (`failed`) or tried again (`retrying`). Default: a
   * warning on the console that names the code.
   */
  onError?: (error: TokenError) => unknown;
  /** Its abort is `stop()`. */
  signal?: AbortSignal;
}

/** Options of {@link TokenSource.token}. */
export interface TokenOptions {
  /** Seconds that the token must still live, for a long upload. Less than the server's `TOKEN_TTL`. Default: 0, alive. */
  minLife?: number;
}

/** Keeps a living token until it is stopped, or nobody is signed in. */
export interface TokenSource {
  /**
   * A token that lives, for at least `minLife` seconds if asked. From memory if it can be; else it is
   * fetched, and `onToken` has settled when this resolves. Rejects with a {@link TokenError}: at once during
   * the pause after a failure, if no token lives. A `minLife` that cannot be had (`life_too_short`,
   * `invalid_request`) fails this call alone.
   */
  token(options?: TokenOptions): Promise<string>;
  /** Asks the server now, or joins the request in flight. Rejects at once while a `Retry-After` runs. */
  refresh(): Promise<string>;
  /** Ends this source: aborts a request, drops the token, and waiting calls reject with the code `stopped`. Other tabs go on. */
  stop(): void;
  /** Ends this source and those of the same user in all tabs. Call it where the user signs out. */
  signOut(): void;
  /** How it does, right now. */
  readonly state: State;
}

/** Why there is no token. It never holds one. */
export class TokenError extends Error {
  constructor(code: string, details?: { status?: number; requestId?: string; retryAfter?: number; cause?: unknown });
  name: 'TokenError';
  /**
   * The `code` of the server's problem document, `http_<status>` for an answer without one, or one of
   * `network` (which is also all that a browser says where the page's origin is not allowed), `timeout`,
   * `invalid_answer`, `headers_failed`, `on_token_failed`, `life_too_short`, `stopped`, `signed_out`,
   * `signed_out_elsewhere`, `user_changed`.
   */
  code: string;
  /** The HTTP status, if there was an answer. */
  status?: number;
  /** The server's `request_id`, under which its log tells more. */
  requestId?: string;
  /** Seconds that the server asked to wait. After an hour the module tries again all the same. */
  retryAfter?: number;
}

/**
 * Fetches a token now and a new one before each ends, and hands each to `onToken`. Call it in a browser,
 * once for a page.
 *
 * @example
 * const source = keepSignedIn({
 *   url: 'https://token.example.com/token',
 *   onToken: (token) => sethealth.auth.setAccessToken(token),
 * });
 *
 * @throws TypeError if an option is wrong.
 */
export function keepSignedIn(options: KeepSignedInOptions): TokenSource;
