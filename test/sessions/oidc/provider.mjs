// An OpenID provider with the habits of real deployments: tokens for one API, signed with Ed25519 or opaque
// by client, refresh tokens that may be used once, DPoP on request. login_hint says who signs in.
import { randomUUID } from "node:crypto";
import http from "node:http";
import { exportJWK, generateKeyPair } from "jose";

globalThis.navigator ??= {}; // oidc-provider reads it, and Node has it from version 21 on
const { default: Provider } = await import("oidc-provider");

const audience = "https://tokens.example.com";
const callback = "https://app.example.com/callback";
const secret = process.env.CLIENT_SECRET;
const user = {
  redirect_uris: [callback],
  grant_types: ["authorization_code", "refresh_token"],
  id_token_signed_response_alg: "Ed25519",
};
const machine = { client_secret: secret, redirect_uris: [], response_types: [], token_endpoint_auth_method: "client_secret_post" };
const clients = [
  { ...user, client_id: "viewer", token_endpoint_auth_method: "none" },
  { ...user, client_id: "opaque", token_endpoint_auth_method: "none" },
  { ...user, client_id: "proxy", client_secret: secret, id_token_signed_response_alg: "RS256" },
  { ...machine, client_id: "robot", grant_types: ["client_credentials"] },
  { ...machine, client_id: "tokenvend", grant_types: [] },
];

async function key(alg) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...(await exportJWK(privateKey)), kid: randomUUID(), use: "sig" };
}

async function provider(issuer) {
  const made = new Provider(issuer, {
    clients,
    jwks: { keys: [await key("Ed25519"), await key("RS256")] },
    cookies: { keys: [randomUUID()] },
    conformIdTokenClaims: false,
    claims: { openid: ["sub"], email: ["email", "email_verified"] },
    clientAuthMethods: ["none", "client_secret_basic", "client_secret_post"],
    findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, email: `${sub}@example.com`, email_verified: true }) }),
    issueRefreshToken: (_, client) => client.grantTypeAllowed("refresh_token"),
    rotateRefreshToken: true,
    interactions: { url: (_, interaction) => `/login/${interaction.uid}` },
    async loadExistingGrant(ctx) { // nobody is asked for consent
      const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
      grant.addOIDCScope("openid email offline_access");
      grant.addResourceScope(audience, "images");
      await grant.save();
      return grant;
    },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: (_, client) => (client.clientId === "proxy" ? [] : audience),
        useGrantedResource: () => true,
        getResourceServerInfo: (_, __, client) => ({
          scope: "images",
          audience,
          accessTokenFormat: client.clientId === "viewer" ? "jwt" : "opaque",
          jwt: { sign: { alg: "Ed25519" } },
        }),
      },
    },
  });
  made.on("server_error", (_, error) => console.error(error));
  return made;
}

const server = http.createServer(async (req, res) => {
  if (req.url === "/rotate") { // as a deployment does it: new keys, and a restart on the same storage
    current = await provider(issuer);
    return res.end();
  }
  if (req.url.startsWith("/login/")) {
    const { params } = await current.interactionDetails(req, res);
    return current.interactionFinished(req, res, { login: { accountId: params.login_hint ?? "alice" } });
  }
  return current.callback()(req, res);
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const issuer = `http://127.0.0.1:${server.address().port}`;
let current = await provider(issuer);
console.log("listening on " + issuer);
