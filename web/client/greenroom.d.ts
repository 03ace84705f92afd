/** A client of greenroom's WebSocket protocol; what it promises stands in greenroom.js. */

/** A command or an event: its name, or an object with its name as the only key. */
export type Action = string | { readonly [name: string]: { readonly [field: string]: unknown } };

export type State = "idle" | "connecting" | "open" | "waiting" | "closed";

/** The answer to a command. `position` is `${epoch}.${seq}` of the event it made, where it made one. */
export interface Ack<Result = unknown> {
  readonly result: Result;
  readonly position: string | null;
}

/** An event as it came; `seq`, `epoch` and the rest are there with `greenroom.v1` only. */
export interface TopicEvent<A extends Action = Action> {
  readonly type: "event";
  readonly action: A;
  readonly topic: string;
  readonly seq?: number;
  readonly epoch?: string;
  readonly correlation_id?: string;
  readonly prev?: number;
}

export interface Features {
  /** Commands are acknowledged, and sent again safely. */
  readonly ids: boolean;
  /** Subscriptions go on where they ended. */
  readonly resume: boolean;
}

/** Told when events of a topic were lost for good: load its state anew. */
export interface Gap {
  readonly topic: string;
}

export interface Options {
  /** Heard from the start; `subscribe` adds handlers. */
  topics?: readonly string[];
  /** A ticket, or what gets a new one for each connection. */
  token?: string | null | (() => string | null | Promise<string | null>);
  /** Names this client across connections; commands are carried out once under it. */
  client?: string;
  /** Where the platform has none: the package `ws` of Node. */
  WebSocket?: new (url: string, protocols?: string[]) => WebSocketLike;
}

/** What the client needs of a WebSocket. */
export interface WebSocketLike {
  readonly protocol: string;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: string): void;
  close(code?: number): void;
}

export class GreenroomError extends Error {
  constructor(message: string, code: string, about?: { retryAfter?: number; id?: string });
  /** The server's (`TOO_MANY_REQUESTS`, ...), or `TIMEOUT`, `QUEUE_FULL`, `CLOSED`, `BAD_DATA`. */
  readonly code: string;
  /** Seconds. */
  readonly retryAfter?: number;
  readonly id?: string;
}

export class GreenroomClient {
  constructor(url: string | URL, options?: Options);
  readonly state: State;
  readonly features: Features;
  connect(): Promise<void>;
  close(): void;
  subscribe<A extends Action = Action>(
    topic: string,
    handler: (action: A, event: TopicEvent<A>) => void,
  ): () => void;
  command<Result = unknown>(
    action: Action,
    options?: { timeout?: number; topic?: string | null },
  ): Promise<Ack<Result>>;
  on(name: "state", handler: (state: State) => void): () => void;
  on(name: "error", handler: (error: Error) => void): () => void;
  on(name: "gap", handler: (gap: Gap) => void): () => void;
}
