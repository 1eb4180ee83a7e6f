/**
 * The status of a {@link TokenSource}.
 *
 * - `starting`: there is no valid token, and one is being requested
 * - `signed-in`: the token is valid
 * - `retrying`: the last request failed and is tried again; the token may still be valid, see `expiresAt`
 * - `signed-out`: nobody is signed in any more; final
 * - `failed`: the server's answer was one that a later try would not change; final
 * - `stopped`: by `stop()` or the `AbortSignal`; final
 */
export type Status = 'starting' | 'signed-in' | 'retrying' | 'signed-out' | 'failed' | 'stopped';

/** A snapshot. It never contains the token. */
export interface State {
  readonly status: Status;
  /** When the token expires, in milliseconds since the epoch by this device's clock; undefined if there is none, or its lifetime is not known. */
  readonly expiresAt: number | undefined;
  /** When the next request is due, likewise; undefined if none is. */
  readonly nextFetchAt: number | undefined;
  /** Why the last request failed, or why the source ended; undefined once there is a new token. */
  readonly lastError: TokenError | undefined;
}

/** What is known about a token. */
export interface TokenInfo {
  /** Seconds until it expires; undefined if the server did not say. */
  readonly expiresIn: number | undefined;
  /** Whether another tab requested it. */
  readonly fromTab: boolean;
}

/** Options of {@link keepSignedIn}. */
export interface KeepSignedInOptions {
  /** The URL of the server's `/token`. A relative URL is resolved against the page. */
  url: string | URL;
  /**
   * Called with each new token, for `sethealth.auth.setAccessToken`, and after an outage. If it throws or
   * rejects, `onError` is called with the code `on_token_failed`.
   */
  onToken: (token: string, info: TokenInfo) => unknown;
  /**
   * Who is signed in: any string that differs from user to user. Optional: the server's answers tell users
   * apart. With it, a tab that opens later is given the valid token by the others, without a request.
   */
  user?: string | undefined;
  /**
   * Headers for each request, called before each: `async () => ({ Authorization: … })` for a bearer session.
   * After a 401 it is called once more with `refused: true`: renew the bearer token, and it is tried again.
   */
  headers?: ((request: HeadersRequest) => HeadersInit | null | undefined | Promise<HeadersInit | null | undefined>) | undefined;
  /** As for `fetch`. Default: `include` (the session is a cookie), or `same-origin` with `headers`. */
  credentials?: RequestCredentials | undefined;
  /**
   * Called at most once, when nobody is signed in any more and the source has ended. The code is
   * `unauthenticated` (the server answered 401), `signed_out_elsewhere` (another tab), or `user_changed`
   * (another user has signed in). Not called for `signOut()` of this source.
   */
  onSignedOut?: ((error: TokenError) => unknown) | undefined;
  /**
   * Called when something failed: once for each outage, and again when its code changes; not for every retry.
   * `source.state.status` says whether it is final (`failed`) or tried again (`retrying`). Default: a
   * warning on the console with the code.
   */
  onError?: ((error: TokenError) => unknown) | undefined;
  /** Aborting it calls `stop()`. */
  signal?: AbortSignal | undefined;
}

/** The argument of {@link KeepSignedInOptions.headers}. */
export interface HeadersRequest {
  /** Whether the server has just rejected the headers given last. */
  readonly refused: boolean;
}

/** Options of {@link TokenSource.token}. */
export interface TokenOptions {
  /** Seconds for which the token must still be valid, for a long upload. Less than the server's `TOKEN_TTL`. Default: 0. */
  minLife?: number | undefined;
}

/** Keeps a valid token until it is stopped, or nobody is signed in. */
export interface TokenSource {
  /**
   * A valid token, for at least `minLife` seconds if asked. From memory if possible; else it is requested,
   * and `onToken` has settled when this resolves. Rejects with a {@link TokenError}: at once during the
   * pause after a failure, if there is no valid token. A `minLife` that cannot be had (`life_too_short`,
   * `invalid_request`) fails this call alone.
   */
  token(options?: TokenOptions): Promise<string>;
  /**
   * Replaces a token that Sethealth has refused: reports it to the server, which requests a new one for all
   * tabs. Rejects if it gets none; the old token stays, and is reported again until it is replaced. Rejects
   * at once only while the server's `Retry-After` runs.
   */
  refresh(): Promise<string>;
  /** Ends this source: aborts a request, drops the token, and waiting calls reject with the code `stopped`. Other tabs go on. */
  stop(): void;
  /** Ends this source and those of the same user in all tabs. Call it where the user signs out. */
  signOut(): void;
  /** The current status. */
  readonly state: State;
}

/** The reason why there is no token. It never contains a token. */
export class TokenError extends Error {
  constructor(code: string, details?: { status?: number; requestId?: string; retryAfter?: number; cause?: unknown });
  name: 'TokenError';
  /**
   * The `code` of tokenvend's problem document, `http_<status>` for an answer that is not tokenvend's, or one of
   * `network` (which is also all that a browser says where the page's origin is not allowed), `timeout`,
   * `invalid_answer`, `headers_failed`, `not_replaced`, `on_token_failed`, `life_too_short`, `stopped`,
   * `signed_out`, `signed_out_elsewhere`, `user_changed`.
   */
  code: string;
  /** The HTTP status, if there was an answer. */
  status?: number;
  /** The server's `request_id`, which finds the line of its log. */
  requestId?: string;
  /** Seconds that the server asked to wait. After an hour the module tries again all the same. */
  retryAfter?: number;
}

/**
 * Requests a token now and a new one before each expires, and passes each to `onToken`. Call it in a
 * browser, once for a page.
 *
 * @example
 * const source = keepSignedIn({
 *   url: 'https://tokens.example.com/token',
 *   onToken: (token) => sethealth.auth.setAccessToken(token),
 * });
 *
 * @throws TypeError if an option is wrong.
 */
export function keepSignedIn(options: KeepSignedInOptions): TokenSource;
