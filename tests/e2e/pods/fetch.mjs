// A GET and a POST with Node's fetch, as often as asked, each answer's body on a line.
const url = process.argv[2];
for (let turn = 0; turn < Number(process.argv[3] ?? 1); turn++) {
  for (const options of [{}, { method: "POST", body: new Uint8Array(100000) }]) {
    const answer = await fetch(url, options);
    console.log(await answer.text());
  }
}
