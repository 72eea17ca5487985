// Answers with what it was asked, as JSON. Listens on [::], so it sees IPv4 as ::ffff:a.b.c.d.
import { createHash } from "node:crypto";
import { createServer } from "node:http";

createServer((request, response) => {
  const hash = createHash("sha256");
  let length = 0;
  request.on("data", (chunk) => {
    length += chunk.length;
    hash.update(chunk);
  });
  request.on("end", () => {
    response.setHeader("content-type", "application/json");
    response.end(
      JSON.stringify({
        server: "node",
        method: request.method,
        target: request.url,
        headers: request.headers,
        peer: request.socket.remoteAddress,
        length,
        sha256: hash.digest("hex"),
      }),
    );
  });
}).listen(8080, "::");
