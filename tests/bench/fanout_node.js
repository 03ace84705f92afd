// The Node peers of bench_fanout: `node fanout_node.js http|ws`. See fanout_servers.py for what
// comes in and what is told. Node's own `http`, and the package `ws`, as they are used everywhere.
const http = require('http');

const clients = new Set();
const server = http.createServer((request, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write(': open\n\n');
  clients.add(response);
  response.on('close', () => clients.delete(response));
});
const turn = () => new Promise(setImmediate);
const last = 'the-last-of-this-run';
let send = (client, body, n) => client.write(`id: ${n}\ndata: ${body}\n\n`);
let waiting = (client) => client.writableLength > 0;

if (process.argv[2] === 'ws') {
  const { WebSocketServer } = require('ws');
  new WebSocketServer({ server, path: '/ws' }).on('connection', (socket) => {
    clients.add(socket);
    socket.on('close', () => clients.delete(socket));
    socket.send('open now');
  });
  send = (client, body) => client.send(body);
  waiting = (client) => client.bufferedAmount > 0;
}

async function publish(count, together, size) {
  const used = process.cpuUsage();
  for (let n = 1; n <= count; n++) {
    const mark = `n=${String(n).padStart(7, '0')};${n === count ? last : ''}`;
    const text = mark.padEnd(size, 'x');
    for (const client of clients) send(client, text, n);
    if (n % together === 0) await turn();
    if (n % 16 === 0) while ([...clients].some(waiting)) await turn();
  }
  while ([...clients].some(waiting)) await turn();
  const { user, system } = process.cpuUsage(used);
  console.log(JSON.stringify({ cpu: (user + system) / 1e6 }));
}

server.listen(0, '127.0.0.1', () => console.log(server.address().port));
let rest = '';
process.stdin.on('data', async (piece) => {
  rest += piece;
  const lines = rest.split('\n');
  rest = lines.pop();
  for (const line of lines) await publish(...line.split(' ').map(Number));
});
process.stdin.on('end', () => process.exit(0));
