// The service's API for the page: the key, JSON requests, and event streams that resume.

const KEY = "agentflux-key";
const ENDS = new Set(["run_completed", "run_failed", "run_cancelled"]);
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;
// A browser opens six connections to a host, and clicks need one, too.
const STREAMS = 3;
const TURN_MS = 3000; // asking again counts against the key's rate

let freeStreams = STREAMS;
const waiting = [];

async function takeStream() {
  if (freeStreams > 0) freeStreams -= 1;
  else await new Promise((granted) => waiting.push(granted));
}

function giveStreamBack() {
  const next = waiting.shift();
  if (next) next();
  else freeStreams += 1;
}

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const getKey = () => sessionStorage.getItem(KEY) ?? "";
export const setKey = (key) => sessionStorage.setItem(KEY, key);

async function send(path, options = {}) {
  const headers = { Authorization: `Bearer ${getKey()}`, ...options.headers };
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw new Refused(response.status, body?.error?.message ?? `the service answered ${response.status}`);
}

export const get = async (path) => (await send(path)).json();

export const post = async (path, body = {}) =>
  (await send(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  })).json();

/** Call onEvent({id, type, data}) for every event of a run, once and in order, until its end.
 * A stream that breaks is asked for again behind the last event seen; onState tells "live" or "lost".
 * Of many runs a few have a stream at a time: where others wait, each has it for a turn. */
export async function follow(run, onEvent, onState) {
  let last = 0;
  let wait = FIRST_WAIT_MS;
  for (;;) {
    await takeStream();
    const turn = new AbortController();
    let clock;
    try {
      const headers = { "Last-Event-ID": String(last) };
      const response = await send(`/v1/runs/${run}/events`, { headers, signal: turn.signal });
      clock = setInterval(() => waiting.length && turn.abort(), TURN_MS);
      onState("live");
      for await (const event of parsed(response.body)) {
        if (event.id <= last) continue;
        last = event.id;
        wait = FIRST_WAIT_MS;
        onEvent(event);
        if (ENDS.has(event.type)) return;
      }
    } catch (error) {
      if (error instanceof Refused && error.status < 500 && error.status !== 429) throw error;
    } finally {
      clearInterval(clock);
      giveStreamBack();
    }
    if (turn.signal.aborted) continue;
    onState("lost");
    await new Promise((done) => setTimeout(done, wait));
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  }
}

async function* parsed(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(
        block.split("\n").filter((line) => !line.startsWith(":")).map((line) => {
          const at = line.indexOf(": ");
          return [line.slice(0, at), line.slice(at + 2)];
        }),
      );
      if (fields.data) yield { id: Number(fields.id), type: fields.event, data: JSON.parse(fields.data) };
    }
  }
}
