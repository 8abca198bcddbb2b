// A server on Node's http that writes down each request as it was parsed: a JSON line a request in the file SEEN. Prints the
// methods that it knows, and its port.
const fs = require("fs");
const http = require("http");

const server = http.createServer((request, response) => {
    const pieces = [];
    request.on("data", (piece) => pieces.push(piece));
    request.on("end", () => {
        const headers = {};
        for (let i = 0; i < request.rawHeaders.length; i += 2) {
            const name = request.rawHeaders[i].toUpperCase().replace(/-/g, "_");
            const value = request.rawHeaders[i + 1];
            headers[name] = name in headers ? headers[name] + "," + value : value;
        }
        const body = Buffer.concat(pieces).toString("base64");
        fs.appendFileSync(process.env.SEEN, JSON.stringify({ method: request.method, target: request.url, headers, body }) + "\n");
        response.end("ok");
    });
});
server.on("clientError", (error, socket) => {
    fs.appendFileSync(process.env.SEEN, JSON.stringify({ error: error.code, line: String(error.rawPacket).split("\r\n")[0] }) + "\n");
    socket.destroy();
});
server.listen(0, "127.0.0.1", () => console.log("methods " + http.METHODS.join(" ") + "\nlistening on " + server.address().port));
