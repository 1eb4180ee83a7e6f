// A backend with server-side sessions whose cookie is renewed with every answer.
import express from "express";
import session from "express-session";

const app = express();
app.use(session({ secret: "keyboard cat", resave: false, saveUninitialized: false, rolling: true, cookie: { maxAge: 3_600_000 } }));

app.post("/login/:id", (req, res) => {
  req.session.userId = Number(req.params.id);
  res.sendStatus(204);
});

app.get("/api/session", (req, res) => {
  if (!req.session.userId) return res.sendStatus(401);
  res.set("X-Auth-Request-User", String(req.session.userId)).sendStatus(204);
});

// The same for a team that ends a session identifier with each use.
app.get("/api/rotating", (req, res) => {
  const { userId } = req.session;
  if (!userId) return res.sendStatus(401);
  req.session.regenerate(() => {
    req.session.userId = userId;
    res.json({ id: userId });
  });
});

const server = app.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
