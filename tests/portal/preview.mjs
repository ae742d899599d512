// Serves the pages that portal-preview wrote as the broker would: same paths for the
// files, same Content-Security-Policy. Forms are answered and remembered.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import path from "node:path";

const CSP = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; " +
  "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

// `picture`: what GET /host/KEY/picture answers, to be changed by the test; null: an
// error. `posts`: path and fields of each form that came.
export async function servePreview(dir) {
  const state = { picture: "", posts: [] };
  const server = createServer(async (request, response) => {
    const answer = (status, type, body) => {
      response.writeHead(status, {
        "Content-Type": type,
        "Content-Security-Policy": CSP,
        "X-Content-Type-Options": "nosniff",
      });
      response.end(body);
    };
    const where = new URL(request.url, "http://localhost").pathname;
    if (request.method === "POST") {
      let body = "";
      for await (const part of request) body += part;
      state.posts.push({ path: where, fields: Object.fromEntries(new URLSearchParams(body)) });
      response.writeHead(303, { Location: "/message" });
      return response.end();
    }
    if (/^\/host\/[^/]+\/picture$/.test(where)) {
      if (state.picture === null) return answer(404, TYPES[".html"], "gone");
      return answer(200, TYPES[".html"], state.picture);
    }
    const name = where === "/" ? "/home-typical" : where;
    const ext = path.extname(name) || ".html";
    try {
      answer(200, TYPES[ext], readFileSync(path.join(dir, path.basename(name, ext) + ext)));
    } catch {
      answer(404, TYPES[".html"], "no such page");
    }
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return {
    state,
    url: (name) => `http://127.0.0.1:${server.address().port}/${name}`,
    close: () => new Promise((done) => {
      server.close(done);
      server.closeAllConnections();
    }),
  };
}
