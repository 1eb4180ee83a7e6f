// An application that signs users in by Auth.js.
import { ExpressAuth } from "@auth/express";
import Credentials from "@auth/express/providers/credentials";
import express from "express";

const app = express();
app.use(/^\/auth\/(.*)/, ExpressAuth({
  secret: "canary-authjs-secret-0123456789abcdef",
  trustHost: true,
  providers: [Credentials({
    credentials: { username: {} },
    authorize: ({ username }) => ({ id: "1", name: username, email: `${username}@example.com` }),
  })],
}));

const server = app.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
