import type { Ack, Action, GreenroomClient, State, TopicEvent } from "./greenroom.js";

/** The part of React that is used; give `React` itself. */
export interface ReactLike {
  useCallback: (...arguments_: any[]) => any;
  useEffect: (...arguments_: any[]) => any;
  useRef: (...arguments_: any[]) => any;
  useState: (...arguments_: any[]) => any;
}

export interface Heard<A extends Action = Action> {
  /** At most the newest 200, the newest last. */
  readonly events: readonly TopicEvent<A>[];
  readonly last: TopicEvent<A> | null;
  readonly state: State;
  readonly error: Error | null;
  /** Events were lost for good since the component is shown. */
  readonly gap: boolean;
}

export interface Sent<Result = unknown> {
  readonly pending: boolean;
  readonly error: Error | null;
  readonly result: Result | null;
}

export interface Hooks {
  useTopic<A extends Action = Action>(client: GreenroomClient, topic: string): Heard<A>;
  useCommand<Result = unknown>(client: GreenroomClient): [
    (action: Action, options?: { timeout?: number; topic?: string | null }) => Promise<Ack<Result>>,
    Sent<Result>,
  ];
}

export function makeHooks(React: ReactLike): Hooks;
