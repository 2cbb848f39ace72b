// An HTTP/1.1 client or server on node:http that prints one JSON line of ground truth per request.
//
//   node traffic.js server --port 0              first line: {"listening": PORT}
//   node traffic.js client --port N --count N --connections N --path /a/{n}
"use strict";
const http = require("node:http");

const options = { host: "127.0.0.1", port: "0", count: "1", connections: "1", method: "GET", path: "/", body: "0" };
const [mode, ...rest] = process.argv.slice(2);
for (let at = 0; at < rest.length; at += 2) {
  const name = rest[at].replace(/^--/, "");
  if (!(name in options)) throw new Error(`unknown flag ${rest[at]}`);
  options[name] = rest[at + 1];
}

// Unix time with the precision of the monotonic clock.
const origin = BigInt(Date.now()) * 1000000n - process.hrtime.bigint();
const now = () => origin + process.hrtime.bigint();

function record(line) {
  // Nanoseconds do not fit into a double: written as digits.
  const { start, end, ...others } = line;
  const text = JSON.stringify(others).slice(0, -1);
  process.stdout.write(`${text},"start_ns":${start},"end_ns":${end}}\n`);
}

function serve() {
  const server = http.createServer((request, response) => {
    const start = now();
    let received = 0;
    request.on("data", (data) => (received += data.length));
    request.on("end", () => {
      const code = /^\/status\/(\d+)/.exec(request.url);
      const pieces = /^\/pieces\/(\d+)/.exec(request.url);
      if (pieces) {
        // All of them in one tick: they leave in one writev.
        response.writeHead(200);
        for (let piece = 0; piece < Number(pieces[1]); piece++) response.write("piece\n");
        response.end(() =>
          record({
            method: request.method, path: request.url, status: 200, start, end: now(),
            request_body: received, response_body: Number(pieces[1]) * 6,
          }),
        );
        return;
      }
      const status = code ? Number(code[1]) : 200;
      const body = code ? "status\n" : "ok\n";
      response.writeHead(status, { "Content-Length": body.length });
      response.end(body, () =>
        record({
          method: request.method, path: request.url, status, start, end: now(),
          request_body: received, response_body: body.length,
        }),
      );
    });
  });
  server.listen(Number(options.port), options.host, () =>
    process.stdout.write(`{"listening": ${server.address().port}}\n`),
  );
}

function request(agent, number) {
  return new Promise((resolve) => {
    const path = options.path.replaceAll("{n}", String(number));
    const body = "x".repeat(Number(options.body));
    const start = now();
    const line = { method: options.method, path, status: null, request_body: body.length, response_body: 0 };
    const done = (error) => {
      if (error) line.error = error.message;
      record({ ...line, start, end: now() });
      resolve();
    };
    const headers = body ? { "Content-Length": body.length } : {};
    const { host, port, method } = options;
    const sent = http.request({ host, port: Number(port), method, path, agent, headers }, (response) => {
      line.status = response.statusCode;
      response.on("data", (data) => (line.response_body += data.length));
      response.on("end", () => done());
      response.on("error", done);
    });
    sent.on("error", done);
    sent.end(body);
  });
}

async function client() {
  const count = Number(options.count);
  let next = 0;
  const worker = async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    while (next < count) await request(agent, next++);
    agent.destroy();
  };
  await Promise.all(Array.from({ length: Number(options.connections) }, worker));
}

if (mode === "server") serve();
else if (mode === "client") client();
else throw new Error("usage: node traffic.js server|client [--flag value]...");
