// What the declarations let a program write, and what not; checked by tsc, never run.

import * as React from "react";
import { GreenroomClient, GreenroomError, type Ack, type TopicEvent } from "./greenroom.js";
import { makeHooks } from "./react.js";
const client = new GreenroomClient("/ws", { topics: ["a"], token: async () => "x" });
const end: () => void = client.subscribe<{ MessagePosted: { body: string } }>("room:lobby", (action, event) => {
  console.log(action.MessagePosted.body, event.seq ?? 0);
});
const ack: Promise<Ack<{ n: number }>> = client.command<{ n: number }>({ Post: { body: "x" } }, { timeout: 10 });
client.on("gap", ({ topic }) => topic.length);
client.on("error", (error) => error instanceof GreenroomError && error.code);
// @ts-expect-error there is no such event
client.on("nothing", () => {});
const { useTopic, useCommand } = makeHooks(React);
export function Lobby() {
  const { events, last } = useTopic(client, "room:lobby");
  const [send, { pending, error }] = useCommand<number>(client);
  const one: TopicEvent | null = last;
  return React.createElement("p", null, events.length, String(pending), error?.message, one?.topic, String(send));
}
export { end, ack };
