// Answers in HTTP/2 by prior knowledge alone, with the pod's name and the version: the suite's h2c port.
import { createServer } from "node:http2";

const server = createServer((request, response) => {
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ pod: process.env.POD, protocol: request.httpVersion, path: request.url }));
});
server.listen(3001, "0.0.0.0");
