// Hooks for React around a GreenroomClient; React itself is given, so that no version is chosen here.
//
//   const { useTopic, useCommand } = makeHooks(React);
//   const { events, state } = useTopic(client, "room:lobby");
//   const [post, { pending, error }] = useCommand(client);

const EVENTS_MOST = 200;
const NOTHING_HEARD = { events: [], last: null, error: null, gap: false };
const NOTHING_SENT = { pending: false, error: null, result: null };

export function makeHooks({ useCallback, useEffect, useRef, useState }) {
  /** What a topic told since this component is shown, at most 200 events, the newest last. */
  function useTopic(client, topic) {
    const [heard, setHeard] = useState(NOTHING_HEARD);
    const [state, setState] = useState(client.state);
    useEffect(() => {
      setHeard(NOTHING_HEARD);
      setState(client.state);
      const ends = [
        client.subscribe(topic, (action, event) => setHeard((before) => ({
          ...before, last: event, events: [...before.events, event].slice(-EVENTS_MOST),
        }))),
        client.on("state", setState),
        client.on("error", (error) => setHeard((before) => ({ ...before, error }))),
        client.on("gap", (gap) => {
          if (gap.topic === topic) setHeard((before) => ({ ...before, gap: true }));
        }),
      ];
      return () => ends.forEach((end) => end());
    }, [client, topic]);
    return { ...heard, state };
  }

  /** A function that sends a command, and how the newest one went. */
  function useCommand(client) {
    const [sent, setSent] = useState(NOTHING_SENT);
    const newest = useRef(0);
    const isShown = useRef(false);
    useEffect(() => {
      // Set here as well: mounted twice, as the strict mode does, it is shown again.
      isShown.current = true;
      return () => {
        isShown.current = false;
      };
    }, []);
    const send = useCallback(async (action, options) => {
      newest.current += 1;
      const number = newest.current;
      const tell = (what) => isShown.current && number === newest.current && setSent(what);
      tell({ pending: true, error: null, result: null });
      try {
        const ack = await client.command(action, options);
        tell({ pending: false, error: null, result: ack.result });
        return ack;
      } catch (error) {
        tell({ pending: false, error, result: null });
        throw error;
      }
    }, [client]);
    return [send, sent];
  }

  return { useTopic, useCommand };
}
