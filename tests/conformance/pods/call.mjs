// Makes a unary gRPC call several times on one HTTP/2 connection by Node's own http2, with framing by hand.
// Arguments: authority, path, times. Writes what came of them as JSON, as call.py does.
import { connect } from "node:http2";

const [authority, path, times] = process.argv.slice(2);
const session = connect(`http://${authority}`);

function framed(message) {
  const text = Buffer.from(JSON.stringify(message));
  const head = Buffer.alloc(5);
  head.writeUInt32BE(text.length, 1);
  return Buffer.concat([head, text]);
}

function call(message) {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc+json",
      te: "trailers",
      "grpc-timeout": "30S",
    });
    const pieces = [];
    let last = {};
    stream.on("response", (head) => (last = { ...last, ...head }));
    stream.on("trailers", (trailers) => (last = { ...last, ...trailers }));
    stream.on("data", (piece) => pieces.push(piece));
    stream.on("error", reject);
    stream.on("end", () => {
      const data = Buffer.concat(pieces);
      const messages = data.length ? [JSON.parse(data.subarray(5).toString())] : [];
      resolve({ http: last[":status"], code: last["grpc-status"], details: last["grpc-message"], messages });
    });
    stream.end(framed(message));
  });
}

const made = await Promise.all(Array.from({ length: Number(times) }, (_, number) => call({ number })));
session.close();
console.log(JSON.stringify(made));
