// GETs with node:http and an agent that keeps its connection, as often as asked, each answer's body on a line.
import http from "node:http";

const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
for (let turn = 0; turn < Number(process.argv[3]); turn++) {
  const body = await new Promise((resolve, reject) => {
    const request = http.get(process.argv[2], { agent }, (answer) => {
      answer.setEncoding("utf8");
      let text = "";
      answer.on("data", (more) => (text += more));
      answer.on("end", () => resolve(text));
    });
    request.on("error", reject);
  });
  console.log(body);
}
agent.destroy();
