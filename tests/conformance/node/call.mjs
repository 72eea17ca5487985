// Makes gRPC calls by grpc-js, as pods/call.py does by grpcio: the same lines in, and the same out.
// But calls that are made several times are made at once, on the channel's one connection.
import { createInterface } from "node:readline";
import { Client, Metadata, credentials, status } from "@grpc/grpc-js";

const OPTIONS = {
  // A lab's names are in a pod's /etc/hosts: there are no TXT records that could hold a channel's config.
  "grpc.service_config_disable_resolution": 1,
  // A channel's connection is its own.
  "grpc.use_local_subchannel_pool": 1,
};

const encode = (message) => Buffer.from(JSON.stringify(message));
const decode = (bytes) => JSON.parse(bytes.toString());

function begun(client, call, messages) {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(call.metadata ?? {})) metadata.add(name, value);
  const options = { deadline: Date.now() + 1000 * (call.timeout ?? 30) };
  const method = [call.method, encode, decode];
  const request = call.request ?? {};
  // An error is told by the status, too.
  const answered = (_error, message) => message && messages.push(message);

  switch (call.method.split("/").pop()) {
    case "Many":
      return client.makeServerStreamRequest(...method, request, metadata, options);
    case "Collect":
      return client.makeClientStreamRequest(...method, metadata, options, answered);
    case "Chat":
      return client.makeBidiStreamRequest(...method, metadata, options);
    default:
      return client.makeUnaryRequest(...method, request, metadata, options, answered);
  }
}

function made(client, call) {
  return new Promise((resolve) => {
    const messages = [];
    let head = {};
    const stream = begun(client, call, messages);
    stream.on("metadata", (metadata) => (head = metadata.getMap()));
    stream.on("data", (message) => messages.push(message));
    stream.on("error", () => {});
    const read = "read" in stream && new Promise((done) => stream.on("end", done).on("close", done));
    stream.on("status", async ({ code, details, metadata }) => {
      await read;
      resolve({ code: status[code], details, messages, head, last: metadata.getMap() });
    });
    for (const request of call.requests ?? []) stream.write(request);
    if (call.requests) stream.end();
    if ("cancel" in call) setTimeout(() => stream.cancel(), 1000 * call.cancel);
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  const [target, calls] = JSON.parse(line);
  const client = new Client(target, credentials.createInsecure(), OPTIONS);
  const ended = [];
  for (const call of calls) {
    ended.push(await Promise.all(Array.from({ length: call.times ?? 1 }, () => made(client, call))));
  }
  client.close();
  console.log(JSON.stringify(ended));
}
