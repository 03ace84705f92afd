// A client of the orders API, of plain fetch and WebSocket: an expression, called with the address.
async (base) => {
  const orders = `${base}/api/v1/orders`;
  const json = { "Content-Type": "application/json" };
  const post = async (url, body) => {
    const options = { method: "POST" };
    if (body !== undefined) Object.assign(options, { headers: json, body: JSON.stringify(body) });
    const response = await fetch(url, options);
    return [response.status, await response.json()];
  };
  const get = async (url) => {
    const response = await fetch(url);
    return [response.status, await response.json()];
  };
  const listen = async () => {
    const socket = new WebSocket(`${base.replace("http", "ws")}/api/v1/ws`);
    const heard = [];
    const waiting = [];
    socket.onmessage = (event) => {
      heard.push(JSON.parse(event.data));
      waiting.splice(0).forEach((wake) => wake());
    };
    await new Promise((resolve, reject) => Object.assign(socket, { onopen: resolve, onerror: reject }));
    const next = async () => {
      while (!heard.length) await new Promise((resolve) => waiting.push(resolve));
      return heard.shift();
    };
    const send = (message) => socket.send(JSON.stringify(message));
    send({ type: "ping" });
    if ((await next()).type !== "pong") throw new Error("no pong");
    return { next, send, close: () => socket.close() };
  };

  const seen = {};
  const feeds = [await listen(), await listen()];
  const items = [
    { product_id: "prod-1", name: "Widget", quantity: 4, unit_price_cents: 2000 },
    { product_id: "prod-2", name: "Gadget", quantity: 1, unit_price_cents: 2000 },
  ];
  seen.placed = await post(orders, { customer_id: "cust-123", items });
  const id = seen.placed[1].order_id;
  seen.order = await get(`${orders}/${id}`);
  seen.unknown = await get(`${orders}/order-unknown`);
  seen.shipped = await post(`${orders}/${id}/ship`, { tracking: "TRACK123456" });
  seen.refused = await post(`${orders}/${id}/cancel`, { reason: "too late" });
  feeds[0].send({
    type: "command",
    action: { PlaceOrder: { customer_id: "cust-9", items: [
      { product_id: "p", name: "Pen", quantity: 2, unit_price: 150 }] } },
    topic: null,
  });
  seen.feeds = [];
  for (const feed of feeds) seen.feeds.push([await feed.next(), await feed.next(), await feed.next()]);
  feeds[1].send({ type: "command", action: { CancelOrder: { order_id: id, reason: "r" } }, topic: null });
  seen.failed = await feeds[1].next();
  feeds.forEach((feed) => feed.close());
  seen.bare = await post(`${orders}/${seen.feeds[0][2].action.OrderPlaced.order_id}/cancel`);
  return seen;
}
