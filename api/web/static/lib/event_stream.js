/** Server-Sent Events, with the visitor's API key, which the browser's own EventSource cannot send. */

import { request } from "./requests.js";
import { pause } from "./timing.js";

/**
 * The events of a stream, `{event, data}` with the data as text. Connects again as the specification says until
 * an event `end`, which is the last, or the signal. Throws ApiError when refused.
 */
export async function* events(path, { signal } = {}) {
  const stream = { retryMs: 2000, lastId: "" };
  for (;;) {
    try {
      const headers = { Accept: "text/event-stream", ...(stream.lastId && { "Last-Event-ID": stream.lastId }) };
      const answer = await request(path, { headers, signal });
      if (answer.status === 204) return;
      for await (const event of parseEvents(answer.body, stream)) {
        yield event;
        if (event.event === "end") return;
      }
    } catch (error) {
      const brokeOff = error instanceof TypeError;
      if (!brokeOff && !error.isPassing) throw error;
    }
    await pause(stream.retryMs, signal);
  }
}

async function* parseEvents(body, stream) {
  let event = "message";
  let data = [];
  for await (const line of lines(body)) {
    const [, field, value] = /^([^:]*)(?:: ?)?(.*)$/.exec(line);
    if (line === "") {
      if (data.length) yield { event, data: data.join("\n") };
      event = "message";
      data = [];
    } else if (field === "event") event = value;
    else if (field === "data") data.push(value);
    else if (field === "id") stream.lastId = value;
    else if (field === "retry" && /^\d+$/.test(value)) stream.retryMs = Number(value);
  }
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = parts.pop();
      yield* parts;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
